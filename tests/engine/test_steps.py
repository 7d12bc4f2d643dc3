from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fssbench.banks.sampling import Episodes
from fssbench.engine.steps import plan_steps


def episodes_of(queries: list[int]) -> Episodes:
    count = len(queries)
    column = np.zeros(count, dtype=np.int64)
    return Episodes(
        classes=np.ones((count, 1), dtype=np.int64),
        support=np.full((count, 1, 1), 99),
        query=np.array(queries, dtype=np.int64),
        run=column,
        group=np.arange(count),
    )


def rows_of(queries: list[int], batch: int, **options: object) -> list[list[int]]:
    return [rows.tolist() for rows in plan_steps(episodes_of(queries), batch, **options)]  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 12), max_size=80), st.integers(1, 9))
def test_every_episode_is_in_one_step_and_no_step_is_larger_than_the_batch(queries: list[int], batch: int) -> None:
    steps = rows_of(queries, batch)
    assert sorted(row for rows in steps for row in rows) == list(range(len(queries)))
    assert all(1 <= len(rows) <= batch for rows in steps)


@given(st.lists(st.integers(0, 12), max_size=80), st.integers(1, 9))
def test_a_query_with_half_a_batch_of_episodes_shares_no_step(queries: list[int], batch: int) -> None:
    counts = Counter(queries)
    for rows in rows_of(queries, batch):
        seen = {queries[row] for row in rows}
        assert len(seen) == 1 or all(2 * counts[query] < batch for query in seen)


def test_a_querys_episodes_are_cut_into_parts_as_equal_as_can_be() -> None:
    assert [len(rows) for rows in rows_of([3] * 10, 8)] == [5, 5]


def test_rare_queries_fill_steps_together() -> None:
    assert rows_of([0, 1, 2, 0, 1, 2, 3, 3], 8) == [[0, 3, 1, 4, 2, 5, 6, 7]]


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_a_step_holds_queries_of_one_input_size(batch: int) -> None:
    queries = [0, 1, 2, 3, 4, 5, 0, 1, 2]
    for rows in rows_of(queries, batch, shape_of=lambda query: query % 2):
        assert len({queries[row] % 2 for row in rows}) == 1
