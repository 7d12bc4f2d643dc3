"""The order of work: which episodes make a step, and what each step needs. Pure functions on integer arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fssbench.banks.bank import Episodes


@dataclass(frozen=True)
class Step:
    """Episodes of one fold that are segmented together; `rows` are their numbers within the fold."""

    fold: int
    rows: NDArray[np.int64]


def plan_steps(
    fold: int, episodes: Episodes, batch: int, shape_of: Callable[[int], Hashable] = lambda _: None
) -> list[Step]:
    """Cut a fold's episodes into steps of at most `batch`, episodes with the same query side by side.

    A query's features are then needed in one stretch and can be let go after it. `shape_of` gives the network input
    size of an image: a step holds queries of one size only. The cut depends on nothing but the bank and `batch`, so a
    resumed run computes in the very batches of an uninterrupted one.
    """
    first_seen: dict[int, int] = {}
    for query in episodes.query.tolist():
        first_seen.setdefault(query, len(first_seen))
    groups: dict[Hashable, list[int]] = {}
    for row, query in enumerate(episodes.query.tolist()):
        groups.setdefault(shape_of(query), []).append(row)
    steps = []
    for rows in groups.values():
        rows.sort(key=lambda row: (first_seen[int(episodes.query[row])], row))
        steps += [Step(fold, np.array(rows[i : i + batch])) for i in range(0, len(rows), batch)]
    return steps


def distinct(values: NDArray[np.int64]) -> list[int]:
    """The distinct values of an array in order of appearance."""
    return list(dict.fromkeys(values.ravel().tolist()))


def other_classes(classes: Sequence[int], way: int) -> tuple[int, ...]:
    """The classes of an episode's other ways, sorted: part of what a support label depends on."""
    return tuple(sorted(c for index, c in enumerate(classes) if index != way))
