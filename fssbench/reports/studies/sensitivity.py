"""How much the choice of the support matters: results on banks that draw several supports for one query.

Episodes of one `group` share query and classes and differ in their supports only, so the spread of IoU within a group
is what the support causes; everything else is held still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from fssbench.errors import RecordError
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.scoring.metrics import BACKGROUND_CLASS, summarise
from fssbench.scoring.pixels import iou
from fssbench.scoring.rules import NEUTRAL, ScoringRules, rules_of

QUERY = ["fold", "run", "group"]
EPISODE = ["fold", "run", "episode"]


@dataclass(frozen=True)
class Spread:
    """What the support causes, over the queries of one class (or of all). Fractions."""

    name: str
    queries: int
    supports: float  # support sets a query, on average
    iou: float  # mean over episodes
    deviation: float  # within a query: root of the mean variance (n - 1)
    span: float  # best minus worst support of a query, on average
    share: float | None  # of the variance between episodes, the part that lies within queries; None where there is none


@dataclass(frozen=True)
class Sensitivity:
    """A result with its spread, and its mIoU if every query had got its worst, or its best, support."""

    result: Result
    overall: Spread
    classes: tuple[Spread, ...]
    miou: float | None
    miou_worst: float | None
    miou_best: float | None


@dataclass(frozen=True)
class Extremes:
    """The worst and the best support of one query: fold, episodes, and their IoU."""

    fold: int
    worst: int
    best: int
    worst_iou: float
    best_iou: float

    @property
    def span(self) -> float:
        return self.best_iou - self.worst_iou


def sensitivity(result: Result) -> Sensitivity:
    """The spread of one result. Raises `RecordError` if no query of it has several supports."""
    run = result.run
    episodes = repeated(episodes_of(result))
    if episodes.empty:
        raise RecordError(
            f"{result.sources[0].path}: expected several supports for a query, found one for each. "
            "Run the method on a bank that draws more (`fssbench generate-episodes ... --supports-per-query 5`)."
        )
    rules = rules_of(run.bank.protocol)
    ways = episodes[episodes["class_id"] != BACKGROUND_CLASS]
    by_class = [
        spread(mine, run.bank.class_names.get(int(class_id), f"class {class_id}"))
        for class_id, mine in ((c, ways[ways["class_id"] == c]) for c in sorted(set(ways["class_id"].tolist())))
    ]
    worst, best = extremes(ways)
    folds = run.bank.folds
    return Sensitivity(
        result=result,
        overall=spread(ways, "all classes"),
        classes=tuple(by_class),
        miou=summarise(episodes, folds, rules)["miou"],
        miou_worst=_miou_of(episodes, worst, folds, rules),
        miou_best=_miou_of(episodes, best, folds, rules),
    )


def has_several_supports(result: Result) -> bool:
    """Whether any query of the result has more than one support."""
    return not repeated(episodes_of(result)).empty


def repeated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of queries that have more than one support."""
    return rows[rows.groupby(QUERY)["episode"].transform("nunique") > 1]


def spread(rows: pd.DataFrame, name: str) -> Spread:
    """The spread within queries over rows of drawn classes; a row is one episode and way."""
    values = pd.Series(iou(rows[["tp", "fp", "fn"]].to_numpy()), index=rows.index).fillna(0.0)
    groups = values.groupby([rows[column] for column in [*QUERY, "class_id"]])
    count, variance = groups.size(), groups.var(ddof=1)
    within = float(np.average(variance, weights=count - 1))
    total = float(values.var(ddof=1))
    return Spread(
        name=name,
        queries=rows.groupby(QUERY).ngroups,
        supports=float(count.mean()),
        iou=float(values.mean()),
        deviation=within**0.5,
        span=float((groups.max() - groups.min()).mean()),
        share=min(1.0, within / total) if total > 0 else None,
    )


def extremes(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Worst and best episode of every query: fold, run, group, episode, iou (mean over ways; the first of equals)."""
    values = rows.assign(iou=np.nan_to_num(iou(rows[["tp", "fp", "fn"]].to_numpy())))
    episodes = values.groupby([*QUERY, "episode"], as_index=False)["iou"].mean()
    groups = episodes.groupby(QUERY)["iou"]
    return episodes.loc[groups.idxmin()], episodes.loc[groups.idxmax()]


def widest(result: Result, count: int) -> list[Extremes]:
    """The queries whose supports differ most, widest first; equal ones by fold and episode."""
    rows = repeated(episodes_of(result))
    worst, best = extremes(rows[rows["class_id"] != BACKGROUND_CLASS])
    both = worst.merge(best, on=QUERY, suffixes=("_worst", "_best"))
    found = [
        Extremes(int(fold), int(low), int(high), float(low_iou), float(high_iou))
        for fold, low, high, low_iou, high_iou in zip(
            both["fold"], both["episode_worst"], both["episode_best"], both["iou_worst"], both["iou_best"], strict=True
        )
    ]
    return sorted(found, key=lambda one: (-one.span, one.fold, one.best))[:count]


def values(found: Sequence[Sensitivity]) -> list[dict[str, Any]]:
    """Results with their spread as plain values, for JSON; fractions."""
    return [
        {
            "records": [source.path.as_posix() for source in one.result.sources],
            "method": one.result.setting.method,
            "backbone": one.result.setting.backbone,
            "shot": one.result.shot,
            "fingerprint": one.result.place.fingerprint,
            "miou": one.miou,
            "miou_worst_support": one.miou_worst,
            "miou_best_support": one.miou_best,
            "overall": asdict(one.overall),
            "classes": [asdict(spread) for spread in one.classes],
        }
        for one in found
    ]


def _miou_of(
    rows: pd.DataFrame, chosen: pd.DataFrame, folds: Mapping[int, Sequence[int]], rules: ScoringRules = NEUTRAL
) -> float | None:
    kept = rows.merge(chosen[EPISODE], on=EPISODE)
    value: float | None = summarise(kept, folds, rules)["miou"]
    return value
