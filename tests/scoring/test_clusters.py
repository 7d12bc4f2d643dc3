"""Variance under clustering, against sums over all pairs written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fssbench.records import COLUMNS
from fssbench.scoring.clusters import build_clusters, holm, holm_levels, pair_variance, rank_intervals, variance


def episodes(queries: list[str], supports: list[str], classes: list[int] | None = None) -> pd.DataFrame:
    rows = [
        [0, 0, i, i, 1, 1 if classes is None else classes[i], query, support, 1, 1, 1, 7, 0, 0]
        for i, (query, support) in enumerate(zip(queries, supports, strict=True))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def written_out(psi: np.ndarray, queries: list[str], supports: list[str]) -> float:
    """The least squares over all ordered pairs, one by one."""
    rows, products = [], []
    for i in range(len(psi)):
        for j in range(len(psi)):
            if i != j:
                a, b = supports[i].split("|"), supports[j].split("|")
                shared = sum(x == y for x in a for y in b)
                rows.append([1, queries[i] == queries[j], shared, b.count(queries[i]) + a.count(queries[j])])
                products.append(psi[i] * psi[j])
    x = np.array(rows, float)
    beta = np.linalg.lstsq(x, np.array(products), rcond=None)[0]
    return float((psi**2).sum() - len(psi) * beta[0] + x[:, 1:].sum(0) @ beta[1:])


@pytest.mark.parametrize("shots", [1, 3])
def test_matrix_sums_equal_the_sum_over_all_pairs(shots: int) -> None:
    rng = np.random.default_rng(shots)
    names = [f"i{k}" for k in range(12)]
    queries, supports, effect = [], [], rng.normal(size=12)
    for _ in range(60):
        query, *others = rng.choice(12, 1 + shots, replace=False).tolist()
        queries.append(query)
        supports.append(others)
    psi = np.array([effect[q] + 0.7 * effect[s].mean() for q, s in zip(queries, supports, strict=True)])
    psi = psi + 0.3 * rng.normal(size=60)
    psi -= psi.mean()
    q, s = [names[i] for i in queries], ["|".join(names[i] for i in group) for group in supports]
    expected = written_out(psi, q, s)
    by_query = float((pd.Series(psi).groupby(q).sum() ** 2).sum())
    found, _ = variance(psi[:, None], build_clusters(episodes(q, s)))
    assert by_query < expected, "the case must not be decided by the lower bound"
    assert found[0] == pytest.approx(expected)


def test_the_variances_of_all_differences_at_once_are_those_of_each_by_itself() -> None:
    rng = np.random.default_rng(5)
    names = [f"i{k}" for k in range(40)]
    queries = rng.choice(names, 90).tolist()
    supports = ["|".join(rng.choice([n for n in names if n != q], 2, replace=False)) for q in queries]
    clusters = build_clusters(episodes(queries, supports, [1] * 50 + [2] * 30 + [3] * 10))  # one class has few rows
    psi = rng.normal(size=(90, 4)) ** 3
    psi[:50, 3] = 0.0  # as the number of a class adds nothing elsewhere
    spread, freedom = pair_variance(psi, clusters)
    for i in range(4):
        for j in range(i):
            (one,), (its,) = variance(psi[:, [i]] - psi[:, [j]], clusters)
            assert (spread[i, j], freedom[i, j]) == pytest.approx((one, its))
            assert (spread[j, i], freedom[j, i]) == pytest.approx((one, its))


def test_episodes_that_share_nothing_are_independent() -> None:
    psi = np.random.default_rng(0).normal(size=40)
    psi -= psi.mean()
    clusters = build_clusters(episodes([f"q{i}" for i in range(40)], [f"s{i}" for i in range(40)]))
    found, freedom = variance(psi[:, None], clusters)
    assert found[0] == pytest.approx((psi**2).sum() * 40 / 39)  # the unbiased variance of a mean of n
    assert 20 < freedom[0] <= 39
    assert variance(np.resize([1.0, -1.0], (40, 1)), clusters)[1] == 39  # n - 1, as no episode decides


def test_copies_of_an_episode_add_no_information() -> None:
    psi = np.repeat(np.random.default_rng(1).normal(size=20), 5)
    psi -= psi.mean()
    names = [str(i // 5) for i in range(100)]
    found, _ = variance(psi[:, None] / 100, build_clusters(episodes(names, [f"s{n}" for n in names])))
    alone = psi[::5] / 20
    assert found[0] == pytest.approx((alone**2).sum() * 20 / 19, rel=0.06)


def test_an_image_in_two_classes_makes_them_covary() -> None:
    psi = np.array([1.0, -1.0, 1.0, -1.0])
    together = build_clusters(episodes(["a", "b", "a", "b"], ["s", "t", "u", "v"], [1, 1, 2, 2]))
    apart = build_clusters(episodes(["a", "b", "c", "d"], ["s", "t", "u", "v"], [1, 1, 2, 2]))
    covariance = 2 * (1.0 * 1.0 + -1.0 * -1.0)  # image a with itself, and b
    assert variance(psi[:, None], together)[0][0] == pytest.approx(variance(psi[:, None], apart)[0][0] + covariance)


def test_how_many_episodes_a_class_has_is_not_sampled() -> None:
    psi = np.array([3.0, 3.0, 3.0, -1.0, -1.0, -1.0])
    clusters = build_clusters(episodes(list("abcdef"), list("ghijkl"), [1, 1, 1, 2, 2, 2]))
    assert variance(psi[:, None], clusters)[0][0] == pytest.approx(0.0)


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert holm([0.5, 0.001, 0.02]) == pytest.approx([0.5, 0.003, 0.04])
    assert holm([0.03, 0.03, 0.9]) == pytest.approx([0.09, 0.09, 0.9])
    assert holm([]) == []


def test_holms_levels_agree_with_its_p_values() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        p_values = (draw.random(7) ** 4).tolist()
        for p, corrected, level in zip(p_values, holm(p_values), holm_levels(p_values), strict=True):
            assert (p < 1 - level) == (corrected < 0.05)


def test_after_the_first_difference_that_is_not_significant_none_is() -> None:
    """0.02 is above 0.05 / 3, so 0.021 and 0.03 are not held against 0.05 / 2 and 0.05."""
    assert holm_levels([0.03, 0.02, 0.021]) == pytest.approx([1 - 0.05 / 3] * 3)


def test_rank_intervals_count_who_is_significantly_better_and_worse() -> None:
    better = [[False, True, True], [False, False, False], [False, False, False]]
    assert rank_intervals(better) == [(1, 1), (2, 3), (2, 3)]


def test_names_with_blanks_are_one_image_each() -> None:
    names = [f"my image {i}" for i in range(8)]
    rows = pd.DataFrame({
        "fold": 0, "class_id": 1, "query": names, "supports": [f"{names[i - 1]}|{names[i - 2]}" for i in range(8)],
    })  # fmt: skip
    clusters = build_clusters(rows)
    assert clusters.images == 8
    assert len(set(clusters.image.tolist())) == 8
