"""How much a score would vary with other images: variance under the clustering that fixed lists of episodes have.

A few hundred images make a thousand episodes, so episodes are not independent: those of one query image share its
difficulty, and those of one support image share its quality. Each statistic is linearised into one influence a row,
psi (their sum is the statistic's deviation). Within a class we model, for two rows e and f,

    cov(psi_e, psi_f) = v_query [same query] + v_support (shared supports) + v_both (query of one is support of other)

and estimate the three numbers by least squares on the products psi_e psi_f over all pairs (Henderson's method of
moments for crossed random effects; the intercept takes up that influences are centred). Summed over all pairs this is
the variance. Resampling query images alone misses the supports' part (intervals for 95 % covered 72 to 92 % in
simulation), resampling both ("pigeonhole" bootstrap) counts the noise several times (97 to 100 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from fssbench.names import SEPARATOR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ENOUGH = 15  # rows of a class below which three covariances cannot be estimated


@dataclass(frozen=True)
class Stratum:
    """The rows of one class: which images they use, and what the least squares need. E rows, m images of their own."""

    rows: Ints
    image: Ints  # m: codes of the images that the rows use
    query: Any  # m x E, 0/1, sparse
    support: Any  # m x E, how often an image is a support, sparse
    inverse: Floats  # 4 x 4: pseudo-inverse of the normal matrix
    totals: Floats  # 4: sums of the regressors over pairs of different rows
    shared_with_itself: Floats  # E: a row's supports in common with itself
    images: int  # distinct query images


@dataclass(frozen=True)
class Clusters:
    """The rows of a result (or of a part of it) by class, over one set of images."""

    strata: tuple[Stratum, ...]
    image: Ints  # E: code of the query image, for resampling
    images: int


def build_clusters(episodes: pd.DataFrame) -> Clusters:
    """The clusters of a frame with `records.COLUMNS`; strata are the classes of each fold."""
    return _clusters(*(tuple(episodes[name].tolist()) for name in ("fold", "class_id", "query", "supports")))


@lru_cache(maxsize=8)  # all results of a bank have the same
def _clusters(
    folds: tuple[int, ...], classes: tuple[int, ...], queries: tuple[str, ...], used: tuple[str, ...]
) -> Clusters:
    supports = [names.split(SEPARATOR) if names else [] for names in used]
    flat = [name for names in supports for name in names]
    codes, _ = pd.factorize(np.array([*queries, *flat], dtype=object))
    count, images = len(queries), int(codes.max()) + 1 if len(codes) else 0
    query = codes[:count].astype(np.int64)
    owner = np.repeat(np.arange(count), [len(names) for names in supports])
    rows_of = pd.DataFrame({"fold": folds, "class_id": classes}).groupby(["fold", "class_id"]).indices
    every_query = _incidence(np.arange(count), query, count, images)
    every_support = _incidence(owner, codes[count:], count, images)
    strata = [_stratum(np.asarray(rows), every_query[rows], every_support[rows]) for _, rows in sorted(rows_of.items())]
    return Clusters(tuple(strata), query, images)


def variance(psi: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """Variance and degrees of freedom of P statistics from their rows' influences, E x P.

    Influences are centred within each class first: how many episodes a class has is fixed, not sampled. An image in
    several classes makes these covary; that part is summed directly. Within a class the variance is never below what
    query images alone give; with fewer than `ENOUGH` rows every image is a cluster of its own, which errs on the safe
    side. Degrees of freedom are Satterthwaite's, fewer where a few images decide (heavy tails).
    """
    return _variance(psi, clusters, _Each())


def pair_variance(psi: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """The same of the differences of every two of n statistics, n x n each, without forming n^2 columns.

    Where two statistics are nearly the same this loses digits (a variance is then a difference of large numbers):
    `variance` of their difference does not.
    """
    return _variance(psi, clusters, _Pairs())


class _Each:
    """Sums over rows, by column: m x P to P."""

    def product(self, a: Floats, b: Floats) -> Floats:
        return np.asarray(np.einsum("ep,ep->p", a, b))

    def fourth(self, a: Floats) -> Floats:
        return self.product(a**2, a**2)


class _Pairs:
    """The same of the differences of every two columns: m x n to n x n, by matrix products."""

    def product(self, a: Floats, b: Floats) -> Floats:
        mixed = a.T @ b
        own = np.diagonal(mixed)
        return np.asarray(own[:, None] + own - mixed - mixed.T)

    def fourth(self, a: Floats) -> Floats:
        square = a**2
        even, odd = square.T @ square, (square * a).T @ a
        own = np.diagonal(even)
        return np.asarray(own[:, None] + own + 6 * even - 4 * (odd + odd.T))


def _variance(psi: Floats, clusters: Clusters, of: _Each | _Pairs) -> tuple[Floats, Floats]:
    columns = psi.shape[1]
    shape = of.product(psi[:0], psi[:0]).shape
    total, squares, within = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    touched: Floats = np.zeros((clusters.images, columns))
    asked: Floats = np.zeros((clusters.images, columns))
    for stratum in clusters.strata:
        own_rows = psi[stratum.rows]
        at = np.flatnonzero(own_rows.any(0))  # a class adds to few statistics: its own, its fold's and the means
        if len(shape) > 1:
            at = np.arange(columns)  # but to every difference from one of those
        centred = own_rows[:, at] - own_rows[:, at].mean(0)
        queries, supports = stratum.query @ centred, stratum.support @ centred  # m x P
        only = of.product(queries, queries)
        few = len(stratum.rows) < ENOUGH
        own = only + of.product(supports, supports) if few else _within(centred, queries, supports, only, stratum, of)
        own = np.maximum(own, only)
        place = np.ix_(*[at] * len(shape))
        total[place] += own
        squares[place] += own**2 / _freedom(only, of.fourth(queries), stratum.images)
        within[place] += of.product(queries + supports, queries + supports)
        touched[np.ix_(stratum.image, at)] += queries + supports
        asked[np.ix_(stratum.image, at)] += queries
    across = of.product(touched, touched) - within
    freedom = np.divide(total**2, squares, out=np.full(shape, np.inf), where=squares > 0)
    return np.maximum(total + across, of.product(asked, asked)), np.maximum(freedom, 1.0)


def _incidence(rows: Ints, columns: npt.NDArray[Any], count: int, images: int) -> Any:
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, images))


def _stratum(rows: Ints, query: Any, support: Any) -> Stratum:
    """Sums over ordered pairs of different rows of products of the regressors (1, same query, shared, crossed).

    All of them follow from the m x m matrices of co-occurrence, so no E x E matrix is ever built.
    """
    image = np.union1d(query.indices, support.indices)
    query, support = query[:, image], support[:, image]
    count = float(len(rows))
    asked, used = query.sum(0), support.sum(0)
    together, mixed = (support.T @ support).tocsr(), (support.T @ query).tocsr()  # m x m
    itself = np.asarray((support * support).sum(1)).ravel()  # a row's supports shared with itself
    both = float((support * query).sum())  # 0 unless a query is its own support
    one_query, one_support, one_cross = (asked**2).sum(), (used**2).sum(), 2 * (asked * used).sum()
    query_support = (mixed * mixed).sum()
    query_cross = 2 * (asked * mixed.diagonal()).sum()
    support_support = (together * together).sum()
    support_cross = 2 * (together * mixed.T).sum()
    cross_cross = 2 * (mixed * mixed.T).sum() + 2 * (asked * together.diagonal()).sum()
    normal = np.array([
        [count**2 - count, one_query - count, one_support - itself.sum(), one_cross - 2 * both],
        [0.0, one_query - count, query_support - itself.sum(), query_cross - 2 * both],
        [0.0, 0.0, support_support - (itself**2).sum(), support_cross],
        [0.0, 0.0, 0.0, cross_cross],
    ])  # fmt: skip
    normal = normal + np.triu(normal, 1).T
    return Stratum(
        rows=rows,
        image=image.astype(np.int64),
        query=query.T.tocsr(),
        support=support.T.tocsr(),
        inverse=np.linalg.pinv(normal, rcond=1e-10, hermitian=True),
        totals=normal[0],
        shared_with_itself=itself,
        images=int((asked > 0).sum()),
    )


def _within(
    psi: Floats, queries: Floats, supports: Floats, only: Floats, stratum: Stratum, of: _Each | _Pairs
) -> Floats:
    """Variance of the sum of one class's influences, which are centred: their sum is 0."""
    squares = of.product(psi, psi)
    products = np.stack([
        -squares,
        only - squares,
        of.product(supports, supports) - of.product(stratum.shared_with_itself[:, None] * psi, psi),
        2 * of.product(queries, supports),
    ])  # fmt: skip
    fit = np.tensordot(stratum.inverse, products, 1)  # 4 x P
    result: Floats = squares - len(psi) * fit[0] + np.tensordot(stratum.totals[1:], fit[1:], 1)
    return result


def _freedom(second: Floats, fourth: Floats, images: int) -> Floats:
    """Degrees of freedom of a sum of squares of totals by image from the sums of their second and fourth powers, so
    from its own variance: n - 1 if they are normal."""
    noise = fourth - second**2 / max(images, 1)
    freedom = np.divide(2 * second**2, noise, out=np.full_like(second, np.inf), where=noise > 0)
    bounded: Floats = np.clip(freedom, 1.0, max(images - 1, 1))
    return bounded


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def holm_levels(p_values: Sequence[float], level: float = 0.95) -> list[float]:
    """The level at which Holm's procedure tests each of several differences: an interval at it excludes 0 just where
    the corrected p-value is below 1 - `level`.

    >>> [round(1 - each, 4) for each in holm_levels([0.01, 0.04, 0.03])]
    [0.0167, 0.025, 0.025]
    """
    alpha, count = 1 - level, len(p_values)
    levels, stopped = [level] * count, None
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        step = alpha / (count - rank)
        if stopped is None and p_values[i] >= step:
            stopped = step
        levels[i] = 1 - (step if stopped is None else stopped)
    return levels


def rank_intervals(better: Sequence[Sequence[bool]]) -> list[tuple[int, int]]:
    """Ranks that each of n results may have: [1 + those significantly better, n - those significantly worse].

    `better[i][j]` says that i is significantly better than j.

    >>> rank_intervals([[False, False, True], [False, False, False], [False, False, False]])
    [(1, 2), (1, 3), (2, 3)]
    """
    count = len(better)
    return [
        (1 + sum(better[j][i] for j in range(count)), count - sum(better[i][j] for j in range(count)))
        for i in range(count)
    ]
