"""Two methods on the same episodes: paired differences with intervals, tests and effect sizes.

Both are resampled together, so what they share (a hard query, a poor support) cancels. Episodes are clustered by
image as in `intervals`; tests are t tests on the difference with that standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fssbench.errors import RecordError
from fssbench.records import SEPARATOR
from fssbench.scoring.clusters import build_clusters
from fssbench.scoring.intervals import RESAMPLES, resample, standard_errors, statistics, widen
from fssbench.scoring.metrics import BACKGROUND_CLASS
from fssbench.scoring.pixels import iou
from fssbench.scoring.rules import NEUTRAL, ScoringRules

EPISODE = ["fold", "run", "episode", "way"]
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


@dataclass(frozen=True)
class Effect:
    """How large a difference is beside its spread. Episodes are averaged by query image first."""

    cohen_d: float  # mean of the differences of IoU over their standard deviation
    better: float  # share of episodes on which the first is better; ties count half
    images: int


def paired_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    fold_classes: Mapping[int, Sequence[int]],
    rng: np.random.Generator,
    rules: ScoringRules = NEUTRAL,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Differences by name: "mean", "fb", "fold 0", "fold 0 fb", "class 7", where both have a number.

    Raises `RecordError` if the frames do not hold the same episodes.
    """
    first, second = aligned(first, second)
    together = first.assign(supports=_either(first["supports"], second["supports"]))
    clusters = build_clusters(together)
    drawn = resample(clusters, rng, resamples)
    a, b = (statistics(frame, fold_classes, drawn, rules) for frame in (first, second))
    change = a.value - b.value
    error, freedom = standard_errors(a.influence - b.influence, clusters)
    low, high = widen(change, a.draws - b.draws, error, freedom, level)
    ratio = np.divide(np.abs(change), error, out=np.where(change == 0, 0.0, np.inf), where=error > 0)
    p_value = 2.0 * stats.t.sf(ratio, freedom)
    columns = np.stack([a.value, b.value, change, low, high, error, p_value])
    return {name: Difference(*columns[:, i].tolist()) for i, name in enumerate(a.names) if np.isfinite(change[i])}


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


def effect_size(first: pd.DataFrame, second: pd.DataFrame) -> Effect:
    """Paired Cohen's d over query images, and how often the first is better."""
    change = episode_change(first, second)
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
    rows: pd.DataFrame = first[[*EPISODE, "class_id", "query", "supports"]].assign(first=a, second=b, change=a - b)
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
