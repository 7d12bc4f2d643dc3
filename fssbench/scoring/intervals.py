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
from scipy import special

from fssbench.records import COUNTS
from fssbench.scoring.clusters import Clusters, Floats, Ints, build_clusters, variance
from fssbench.scoring.metrics import FoldScores, Rows, Sums, pool, prepare, score
from fssbench.scoring.pixels import iou
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
class Resamples:
    """How often each image counts."""

    image: Ints  # E: the image that a row queries
    weights: Floats  # R x n, those of an image side by side in memory


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
    between: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Interval]:
    """Intervals by name: "mean", "fb", "fold 0", "fold 0 fb", "class 7". Numbers that do not exist are left out.

    `between` adds a variance that images know nothing of (that of training again) with its degrees of freedom.
    """
    clusters = build_clusters(episodes)
    found = statistics(episodes, fold_classes, resample(clusters, rng, resamples), rules)
    return intervals_of(found, clusters, level=level, between=between)


def intervals_of(
    found: Statistics,
    clusters: Clusters,
    *,
    level: float = 0.95,
    between: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Interval]:
    """The same from statistics that were resampled already."""
    error, freedom = standard_errors(found.influence, clusters)
    if between:
        more = [between.get(name, (0.0, np.inf)) for name in found.names]
        error, freedom = add_variance(error, freedom, *np.array(more).T)
    low, high = widen(found.value, found.draws, error, freedom, level)
    return {
        name: Interval(*(float(x) for x in (found.value[i], max(low[i], 0.0), min(high[i], 1.0), error[i])))
        for i, name in enumerate(found.names)
        if np.isfinite(found.value[i])
    }


def resample(clusters: Clusters, rng: np.random.Generator, resamples: int) -> Resamples:
    """One exponential weight an image and resample, shared by all episodes that query the image."""
    return Resamples(clusters.image, np.asfortranarray(rng.exponential(size=(resamples, clusters.images))))


def standard_errors(influence: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """Standard errors and degrees of freedom of P statistics."""
    spread, freedom = variance(influence, clusters)
    return np.sqrt(spread), freedom


def add_variance(error: Floats, freedom: Floats, more: Floats, its_freedom: Floats) -> tuple[Floats, Floats]:
    """Standard error and Satterthwaite's degrees of freedom after adding an independent variance."""
    total = error**2 + more
    noise = error**4 / freedom + more**2 / its_freedom
    return np.sqrt(total), np.divide(total**2, noise, out=np.full_like(total, np.inf), where=noise > 0)


def widen(value: Floats, draws: Floats, error: Floats, freedom: Floats, level: float) -> tuple[Floats, Floats]:
    """Percentile interval of the draws, stretched about the value to the standard error and Student's t."""
    tail = (1 - level) / 2
    quantile = special.stdtrit(freedom, 1 - tail) / special.ndtri(1 - tail)
    spread = draws.std(0)
    stretch = np.divide(quantile * error, spread, out=np.zeros_like(spread), where=spread > 0)
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return value + stretch * (low - value), value + stretch * (high - value)


def statistics(
    episodes: pd.DataFrame,
    fold_classes: Mapping[int, Sequence[int]],
    resamples: Resamples,
    rules: ScoringRules = NEUTRAL,
) -> Statistics:
    """All numbers of a result: value, influence of each row, and value in each resample.

    Runs are scored one by one and averaged. There is a mean only if every fold of the bank is there.
    """
    episodes = episodes[["fold", "run", "episode", "class_id", *COUNTS]]
    run_of = episodes["run"].to_numpy()
    fold_of = episodes["fold"].to_numpy()
    runs = []
    for run in np.unique(run_of):
        parts = {}
        for fold in np.unique(fold_of[run_of == run]).tolist():
            where = np.flatnonzero((run_of == run) & (fold_of == fold))
            parts[fold] = _part(episodes.iloc[where], where, fold_classes[fold], resamples, rules)
        runs.append(_run_numbers(parts, fold_classes, rules))
    names = [name for name in runs[0] if all(name in run for run in runs)]
    numbers = [_average([run[name] for run in runs]) for name in names]
    return Statistics(
        names=tuple(names),
        value=np.array([number.value for number in numbers]),
        influence=np.stack([number.influence for number in numbers], -1),
        draws=np.stack([number.draws for number in numbers], -1),
    )


@dataclass(frozen=True)
class _Number:
    """One statistic: value, influence of all rows, draws."""

    value: float
    influence: Floats  # E
    draws: Floats  # R


@dataclass(frozen=True)
class _Part:
    """One fold of one run, pooled: as it is, and in every resample."""

    rows: Rows
    image: Ints  # of the part's rows
    where: Ints  # the part's rows among all E
    total: int  # E
    sums: Sums
    drawn: Sums

    def number(self, value: Floats, influence: Floats, draws: Floats) -> _Number:
        """A statistic of this part; other rows have no influence on it."""
        placed = np.zeros(self.total)
        placed[self.where] = influence
        return _Number(float(value), placed, draws)


def _part(
    episodes: pd.DataFrame, where: Ints, classes: Sequence[int], resamples: Resamples, rules: ScoringRules
) -> _Part:
    rows, image = prepare(episodes, classes, rules), resamples.image[where]
    return _Part(rows, image, where, len(resamples.image), pool(rows), pool(rows, image, resamples.weights))


def _run_numbers(
    parts: Mapping[int, _Part], fold_classes: Mapping[int, Sequence[int]], rules: ScoringRules
) -> dict[str, _Number]:
    """All numbers of one run. The mean and FB-IoU are there if every fold is."""
    numbers: dict[str, _Number] = {}
    for fold, part in parts.items():
        numbers |= _fold_numbers(fold, part, rules)
    if set(parts) != set(fold_classes):
        return numbers
    folds = [f"fold {fold}" for fold in fold_classes]
    if rules.averaging == "classes":
        every = [numbers[f"class {c}"] for classes in fold_classes.values() for c in classes]
        known = [each for each in every if np.isfinite(each.value)]
        numbers["mean"] = _average(known if rules.absent_class == "skip" and known else every)
    else:
        numbers["mean"] = _average([numbers[name] for name in folds])
    if rules.fb_pooling == "all":
        numbers["fb"] = _pooled_fb(list(parts.values()))
    else:
        numbers["fb"] = _average([numbers[f"{name} fb"] for name in folds])
    return numbers


def _fold_numbers(fold: int, part: _Part, rules: ScoringRules) -> dict[str, _Number]:
    """IoU of each class, mIoU and FB-IoU of one fold."""
    scores, draws = score(part.sums, rules), score(part.drawn, rules)
    by_class = _class_influence(part, scores)  # E x C
    known = ~np.isnan(scores.class_iou)
    share = known / max(known.sum(), 1) if rules.absent_class == "skip" else np.full(len(known), 1 / len(known))
    found = {
        f"class {c}": part.number(scores.class_iou[i], by_class[:, i], draws.class_iou[:, i])
        for i, c in enumerate(part.rows.classes)
    }
    found[f"fold {fold}"] = part.number(scores.miou, by_class @ share, draws.miou)
    change = _fb_influence(part.rows, part.sums.classes.sum(-2), part.sums.background)
    found[f"fold {fold} fb"] = part.number(scores.fb_iou, change, draws.fb_iou)
    return found


def _class_influence(part: _Part, scores: FoldScores) -> Floats:
    """d IoU = (TP - IoU x union) / sum of unions, for each row and its class.

    The derivative alone is too small with few images, or a few large ones, since each image pulls the IoU towards
    itself: dividing by sqrt(1 - its share) makes the variance unbiased to first order (leverage, as in HC2 errors).
    """
    rows, union = part.rows, part.sums.classes.sum(-1)
    influence = np.zeros((len(rows.position), len(rows.classes)))
    for i in range(len(rows.classes)):
        mine = (rows.position == i) & rows.counted
        if union[i] > 0:
            own = rows.foreground[mine].sum(-1)
            _, image = np.unique(part.image[mine], return_inverse=True)
            share = (np.bincount(image, own) / union[i])[image]
            change = (rows.foreground[mine, 0] - scores.class_iou[i] * own) / union[i]
            influence[mine, i] = change / np.sqrt(np.maximum(1 - share, 0.25))
    return influence


def _fb_influence(rows: Rows, foreground: Floats, background: Floats) -> Floats:
    """The same for FB-IoU, from the pooled counts of all classes and of the background (3 each)."""

    def change(counts: Floats, pooled: Floats) -> Floats:
        union = pooled.sum() or np.nan
        result: Floats = (counts[:, 0] - pooled[0] / union * counts.sum(-1)) / union
        return result

    return (change(rows.foreground, foreground) + change(rows.background, background)) / 2


def _pooled_fb(parts: Sequence[_Part]) -> _Number:
    """FB-IoU of the counts of all folds together."""
    foreground = np.sum([part.sums.classes.sum(-2) for part in parts], axis=0)
    background = np.sum([part.sums.background for part in parts], axis=0)
    drawn_fg = np.sum([part.drawn.classes.sum(-2) for part in parts], axis=0)
    drawn_bg = np.sum([part.drawn.background for part in parts], axis=0)
    influence = np.zeros(parts[0].total)
    for part in parts:
        influence[part.where] = _fb_influence(part.rows, foreground, background)
    return _Number(float((iou(foreground) + iou(background)) / 2), influence, (iou(drawn_fg) + iou(drawn_bg)) / 2)


def _average(numbers: Sequence[_Number]) -> _Number:
    if len(numbers) == 1:
        return numbers[0]
    return _Number(
        float(np.mean([number.value for number in numbers])),
        np.mean([number.influence for number in numbers], axis=0),
        np.mean([number.draws for number in numbers], axis=0),
    )
