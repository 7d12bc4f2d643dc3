"""Two methods on the same episodes: paired differences with intervals, tests and effect sizes.

What both share (a hard query, a poor support) cancels. Episodes are clustered by image as in `intervals`, trainings
are a level of their own; interval and test are Student's with one standard error, so that they never contradict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from fssbench.errors import RecordError
from fssbench.names import SEPARATOR
from fssbench.scoring.clusters import (
    Clusters,
    Floats,
    build_clusters,
    holm,
    pair_variance,
    rank_intervals,
    variance,
)
from fssbench.scoring.intervals import Resamples, add_variance, standard_errors, statistics
from fssbench.scoring.metrics import BACKGROUND_CLASS
from fssbench.scoring.pixels import iou
from fssbench.scoring.rules import NEUTRAL, ScoringRules

EPISODE = ["fold", "run", "episode", "way"]
PAIRS_AT_ONCE = 500
ALIKE = 1e-3  # of both variances: where that of a difference is smaller, matrix products would cost it digits
SAME = [*EPISODE, "class_id", "query"]


@dataclass(frozen=True)
class Difference:
    """First minus second, in fractions."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    error: float
    p_value: float
    freedom: float = math.inf


@dataclass(frozen=True)
class Effect:
    """How large a difference is beside its spread. Episodes are averaged by query image first."""

    cohen_d: float  # mean of the differences of IoU over their standard deviation
    better: float  # share of episodes on which the first is better; ties count half
    images: int


@dataclass(frozen=True)
class Measured:
    """A result's numbers with what each row adds to them, over all its trainings; P numbers, E rows."""

    episodes: pd.DataFrame  # of the first training, in the order of `EPISODE`
    clusters: Clusters
    names: tuple[str, ...]  # "mean", "fb", "fold 0", "fold 0 fb", "class 7"
    value: Floats  # P
    influence: Floats  # E x P
    between: Floats  # P: variance of the mean over trainings, 0 for one training
    trainings: int


def measure(
    trainings: Sequence[pd.DataFrame], fold_classes: Mapping[int, Sequence[int]], rules: ScoringRules = NEUTRAL
) -> Measured:
    """The numbers of a result, from the episodes of each of its trainings.

    Raises `RecordError` if the trainings do not hold the same episodes.
    """
    frames = [trainings[0].sort_values(EPISODE, ignore_index=True)]
    frames += [aligned(frames[0], other)[1] for other in trainings[1:]]
    clusters = build_clusters(frames[0])
    none = Resamples(clusters.image, np.ones((1, clusters.images)))
    parts = [statistics(frame, fold_classes, none, rules) for frame in frames]
    names = tuple(name for name in parts[0].names if all(name in part.names for part in parts))
    columns = [[part.names.index(name) for name in names] for part in parts]
    values = np.stack([part.value[column] for part, column in zip(parts, columns, strict=True)])
    influence = np.mean([part.influence[:, column] for part, column in zip(parts, columns, strict=True)], axis=0)
    count = len(parts)
    between = values.var(0, ddof=1) / count if count > 1 else np.zeros(len(names))
    return Measured(frames[0], clusters, names, values.mean(0), influence, between, count)


def paired_differences(first: Measured, second: Measured, *, level: float = 0.95) -> dict[str, Difference]:
    """Differences by name, where both have a number. The interval excludes 0 just where p < 1 - level.

    Images are shared, so what is hard for both cancels; trainings are not, so their variances add up. Raises
    `RecordError` if the two do not hold the same episodes.
    """
    a, b = aligned(first.episodes, second.episodes)
    clusters = first.clusters
    if not a["supports"].equals(b["supports"]):
        clusters = build_clusters(a.assign(supports=_either(a["supports"], b["supports"])))
    names = [name for name in first.names if name in second.names]
    i, j = [first.names.index(name) for name in names], [second.names.index(name) for name in names]
    values, others = first.value[i], second.value[j]
    change = values - others
    error, freedom = standard_errors(first.influence[:, i] - second.influence[:, j], clusters)
    for side, columns in ((first, i), (second, j)):
        more = np.full(len(columns), max(side.trainings - 1.0, 1.0))
        error, freedom = add_variance(error, freedom, side.between[columns], more)
    p_value = _p_value(change, error, freedom)
    return {
        name: Difference(
            *(float(x) for x in (values[k], others[k], change[k])),
            *(float(x) for x in bounds(change[k], error[k], freedom[k], level)),
            *(float(x) for x in (error[k], p_value[k], freedom[k])),
        )
        for k, name in enumerate(names)
        if np.isfinite(change[k])
    }


def possible_ranks(measured: Sequence[Measured], level: float = 0.95) -> list[tuple[int, int]]:
    """The ranks by the mean that tests of all pairs, after Holm's correction, leave open to each result."""
    return rank_intervals(significantly_better(measured, level))


def significantly_better(measured: Sequence[Measured], level: float = 0.95) -> list[list[bool]]:
    """`[i][j]`: whether the mean of i is better than that of j, by tests of all pairs after Holm's correction.

    All have to be on the same episodes.
    """
    count = len(measured)
    place = [each.names.index("mean") for each in measured]
    value = np.array([each.value[k] for each, k in zip(measured, place, strict=True)])
    influence = np.stack([each.influence[:, k] for each, k in zip(measured, place, strict=True)], -1)  # E x n
    between = np.array([each.between[k] for each, k in zip(measured, place, strict=True)])
    freedom_of = np.array([max(each.trainings - 1, 1) for each in measured], dtype=np.float64)
    spread, freedom = pair_variance(influence, measured[0].clusters)
    own, _ = variance(influence, measured[0].clusters)
    alike = np.argwhere(np.triu(spread <= ALIKE * (own[:, None] + own), 1))
    for start in range(0, len(alike), PAIRS_AT_ONCE):
        i, j = alike[start : start + PAIRS_AT_ONCE].T
        spread[i, j], freedom[i, j] = variance(influence[:, i] - influence[:, j], measured[0].clusters)
    i, j = np.triu_indices(count, 1)
    error, freedom = np.sqrt(spread[i, j]), freedom[i, j]
    for side in (i, j):
        error, freedom = add_variance(error, freedom, between[side], freedom_of[side])
    p_values = _p_value(value[i] - value[j], error, freedom)
    better = [[False] * count for _ in range(count)]
    for one, other, p in zip(i.tolist(), j.tolist(), holm(p_values.tolist()), strict=True):
        if p < 1 - level:
            winner, loser = (one, other) if value[one] > value[other] else (other, one)
            better[winner][loser] = True
    return better


def _p_value(change: Floats, error: Floats, freedom: Floats) -> Floats:
    """Student's test, two-sided; without any error 1 for no difference and 0 for one."""
    ratio = np.divide(np.abs(change), error, out=np.where(change == 0, 0.0, np.inf), where=error > 0)
    return np.asarray(2.0 * special.stdtr(freedom, -ratio))


def bounds(change: float, error: float, freedom: float, level: float) -> tuple[float, float]:
    """Student's interval about a difference."""
    reach = float(special.stdtrit(freedom, 0.5 + level / 2)) * error if error > 0 else 0.0
    return change - reach, change + reach


def at_level(found: Difference, level: float) -> Difference:
    """The same difference with its interval at another level."""
    low, high = bounds(found.difference, found.error, found.freedom, level)
    return replace(found, low=low, high=high)


def aligned(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames in the order of their episodes. Raises `RecordError` where they are not the same episodes."""
    a, b = (frame.sort_values(EPISODE, ignore_index=True) for frame in (first, second))
    if len(a) != len(b):
        raise RecordError(f"expected the same episodes in both records, found {len(a)} and {len(b)} rows")
    differ = (a[SAME].astype(str) != b[SAME].astype(str)).any(axis=1)
    if differ.any():
        at = int(np.argmax(differ.to_numpy()))
        raise RecordError(
            f"expected the same episodes in both records; row {at} is {a.loc[at, SAME].to_dict()} in the first and "
            f"{b.loc[at, SAME].to_dict()} in the second"
        )
    return a, b


def effect_size(change: pd.DataFrame) -> Effect:
    """Paired Cohen's d over query images, and how often the first is better, from `episode_change`."""
    by_image = change.groupby("query")["change"].mean().to_numpy(np.float64)
    spread = float(by_image.std(ddof=1)) if len(by_image) > 1 else 0.0
    values = change["change"].to_numpy(np.float64)
    return Effect(
        cohen_d=float(by_image.mean()) / spread if spread > 0 else 0.0,
        better=float((values > 0).mean() + (values == 0).mean() / 2),
        images=len(by_image),
    )


def episode_change(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The rows of both with their IoUs and `change`, first minus second. Rows where neither has a union count 0."""
    first, second = aligned(first, second)
    kept = first["class_id"].to_numpy() != BACKGROUND_CLASS
    a, b = (np.nan_to_num(iou(frame[["tp", "fp", "fn"]].to_numpy())) for frame in (first, second))
    supports = _either(first["supports"], second["supports"])
    named = first[[*EPISODE, "class_id", "query"]]
    rows: pd.DataFrame = named.assign(supports=supports, first=a, second=b, change=a - b)
    chosen: pd.DataFrame = rows[kept]
    return chosen.reset_index(drop=True)


def most_different(change: pd.DataFrame, count: int) -> pd.DataFrame:
    """The episodes on which two methods differ most, largest difference first."""
    order = change["change"].abs().sort_values(ascending=False, kind="stable").index
    return change.loc[order[:count]].reset_index(drop=True)


def _either(first: pd.Series[str], second: pd.Series[str]) -> list[str]:
    """The supports of both, each once: methods may be compared at different shots."""
    return [
        a if a == b else SEPARATOR.join(dict.fromkeys([*a.split(SEPARATOR), *b.split(SEPARATOR)]))
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
