"""Intervals for IoU by class, mIoU by fold, their mean, and FB-IoU.

The shape comes from a bootstrap over images (every query image gets a random weight, Rubin's Bayesian bootstrap, so
that no class is ever empty); the width from the variance over query and support images (`clusters`), with Student's
t for few images. That combination covers its nominal rate in simulation; see `tests/scoring/test_calibration.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fssbench.scoring.clusters import Clusters, Floats, Ints, build_clusters, variance
from fssbench.scoring.metrics import FoldScores, Rows, Sums, by_fold, pool, prepare, score
from fssbench.scoring.rules import NEUTRAL, ScoringRules

RESAMPLES = 1000


@dataclass(frozen=True)
class Statistics:
    """P numbers of a result with what each row contributes to them, and their values in R resamples."""

    names: tuple[str, ...]  # "mean", "fb", "fold 0", "fold 0 fb", "class 7"
    value: Floats  # P
    influence: Floats  # E x P: first-order contribution of each row
    draws: Floats  # R x P


@dataclass(frozen=True)
class Interval:
    """A number with its interval, all fractions."""

    value: float
    low: float
    high: float
    error: float  # standard error


def intervals(
    episodes: pd.DataFrame,
    fold_classes: Mapping[int, Sequence[int]],
    rng: np.random.Generator,
    rules: ScoringRules = NEUTRAL,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Intervals by name: "mean", "fb", "fold 0", "fold 0 fb", "class 7". Numbers that do not exist are left out."""
    clusters = build_clusters(episodes)
    found = statistics(episodes, fold_classes, image_weights(clusters, rng, resamples), rules)
    error, freedom = standard_errors(found.influence, clusters)
    low, high = widen(found.value, found.draws, error, freedom, level)
    return {
        name: Interval(*(float(x) for x in (found.value[i], max(low[i], 0.0), min(high[i], 1.0), error[i])))
        for i, name in enumerate(found.names)
        if np.isfinite(found.value[i])
    }


def image_weights(clusters: Clusters, rng: np.random.Generator, resamples: int) -> Floats:
    """Random weights of the rows, R x E: one exponential weight an image, shared by all episodes that query it."""
    return rng.exponential(size=(resamples, clusters.images))[:, clusters.image]


def standard_errors(influence: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """Standard errors and degrees of freedom of P statistics."""
    spread, freedom = variance(influence, clusters)
    return np.sqrt(spread), freedom


def widen(value: Floats, draws: Floats, error: Floats, freedom: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval of the draws, stretched about the value to the standard error and Student's t."""
    tail = (1 - level) / 2
    quantile = stats.t.ppf(1 - tail, freedom) / stats.norm.ppf(1 - tail)
    spread = draws.std(0)
    stretch = np.divide(quantile * error, spread, out=np.zeros_like(spread), where=spread > 0)
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return value + stretch * (low - value), value + stretch * (high - value)


def statistics(
    episodes: pd.DataFrame,
    fold_classes: Mapping[int, Sequence[int]],
    weights: Floats,
    rules: ScoringRules = NEUTRAL,
) -> Statistics:
    """All numbers of a result: value, influence of each row, and value under each row of `weights` (R x E).

    Runs are scored one by one and averaged. There is a mean only if every fold of the bank is there.
    """
    positions = pd.Series(np.arange(len(episodes)), index=episodes.index)
    runs = sorted({int(run) for run in episodes["run"].tolist()})
    parts = [
        _run_statistics(part, positions[part.index].to_numpy(), fold_classes, weights, rules)
        for run in runs
        for part in [episodes[episodes["run"] == run]]
    ]
    common = [name for name in parts[0].names if all(name in part.names for part in parts)]
    chosen = [[part.names.index(name) for name in common] for part in parts]
    return Statistics(
        names=tuple(common),
        value=np.mean([part.value[index] for part, index in zip(parts, chosen, strict=True)], axis=0),
        influence=np.mean([part.influence[:, index] for part, index in zip(parts, chosen, strict=True)], axis=0),
        draws=np.mean([part.draws[:, index] for part, index in zip(parts, chosen, strict=True)], axis=0),
    )


@dataclass(frozen=True)
class _Number:
    """One statistic of one run: value, influence of the run's rows, draws."""

    value: float
    influence: Floats  # E
    draws: Floats  # R


def _run_statistics(
    episodes: pd.DataFrame,
    positions: Ints,
    fold_classes: Mapping[int, Sequence[int]],
    weights: Floats,
    rules: ScoringRules,
) -> Statistics:
    numbers: dict[str, _Number] = {}
    index = pd.Series(positions, index=episodes.index)
    for fold, part in by_fold(episodes).items():
        where = index[part.index].to_numpy()
        rows = prepare(part, fold_classes[fold], rules)
        queries = pd.factorize(part["query"])[0]
        numbers |= _fold_numbers(fold, rows, queries, weights[:, where], where, weights.shape[1], rules)
    folds = [f"fold {fold}" for fold in fold_classes]
    if all(name in numbers for name in folds):
        everything = [f"class {c}" for classes in fold_classes.values() for c in classes]
        numbers["mean"] = _average([numbers[n] for n in (everything if rules.averaging == "classes" else folds)])
        numbers["fb"] = _average([numbers[f"{name} fb"] for name in folds])
    return Statistics(
        names=tuple(numbers),
        value=np.array([number.value for number in numbers.values()]),
        influence=np.stack([number.influence for number in numbers.values()], -1),
        draws=np.stack([number.draws for number in numbers.values()], -1),
    )


def _fold_numbers(
    fold: int, rows: Rows, queries: Ints, weights: Floats, where: Ints, total: int, rules: ScoringRules
) -> dict[str, _Number]:
    """IoU of each class, mIoU and FB-IoU of one fold. `where` are the rows' places among all `total` rows."""
    plain, resampled = pool(rows), pool(rows, weights)
    scores, draws = score(plain, rules), score(resampled, rules)
    by_class = _class_influence(rows, queries, plain, scores)  # E x C
    known = ~np.isnan(scores.class_iou)
    share = known / max(known.sum(), 1) if rules.absent_class == "skip" else np.full(len(known), 1 / len(known))
    fb = _fb_influence(rows, plain, scores)

    def placed(influence: Floats) -> Floats:
        out = np.zeros(total)
        out[where] = influence
        return out

    found = {
        f"class {c}": _Number(float(scores.class_iou[i]), placed(by_class[:, i]), draws.class_iou[:, i])
        for i, c in enumerate(rows.classes)
    }
    found[f"fold {fold}"] = _Number(float(scores.miou), placed(by_class @ share), draws.miou)
    found[f"fold {fold} fb"] = _Number(float(scores.fb_iou), placed(fb), draws.fb_iou)
    return found


def _class_influence(rows: Rows, queries: Ints, sums: Sums, scores: FoldScores) -> Floats:
    """d IoU = (TP - IoU x union) / sum of unions, for each row and its class.

    The derivative alone is too small with few images, or a few large ones, since each image pulls the IoU towards
    itself: dividing by sqrt(1 - its share) makes the variance unbiased to first order (leverage, as in HC2 errors).
    """
    union = sums.classes.sum(-1)
    influence = np.zeros((len(rows.position), len(rows.classes)))
    for i in range(len(rows.classes)):
        mine = (rows.position == i) & rows.counted
        if union[i] > 0:
            own = rows.foreground[mine].sum(-1)
            share = (np.bincount(queries[mine], own) / union[i])[queries[mine]]
            change = (rows.foreground[mine, 0] - scores.class_iou[i] * own) / union[i]
            influence[mine, i] = change / np.sqrt(np.maximum(1 - share, 0.25))
    return influence


def _fb_influence(rows: Rows, sums: Sums, scores: FoldScores) -> Floats:
    fg_union, bg_union = sums.classes.sum(), sums.background.sum()
    fg = (rows.foreground[:, 0] - scores.fg_iou * rows.foreground.sum(-1)) / (fg_union or np.nan)
    bg = (rows.background[:, 0] - scores.bg_iou * rows.background.sum(-1)) / (bg_union or np.nan)
    half: Floats = (fg + bg) / 2
    return half


def _average(numbers: Sequence[_Number]) -> _Number:
    return _Number(
        float(np.mean([number.value for number in numbers])),
        np.mean([number.influence for number in numbers], axis=0),
        np.mean([number.draws for number in numbers], axis=0),
    )
