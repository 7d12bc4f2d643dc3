"""From six integers an episode to IoU by class, mIoU by fold, and FB-IoU. Pure numpy, no torch.

Three steps: `prepare` applies the rules to each row, `pool` sums rows (weighted, for resampling), `score` divides.
`summarise` does all three for a frame of episodes and returns plain values for `run.json` and tables.

FSS mIoU is the sum of intersections over the sum of unions per class, then the mean over classes; it is not the mean
of per-image IoUs. FB-IoU is the mean of the IoU of all foreground, whatever its class, and of all background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fssbench.errors import RecordError
from fssbench.records import COUNTS
from fssbench.scoring.pixels import iou
from fssbench.scoring.rules import NEUTRAL, ScoringRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BACKGROUND_CLASS = 0  # class id of the rows that count the background of an N-way episode


@dataclass(frozen=True)
class Rows:
    """The rows of one fold after the rules: what each adds to its class and to the background."""

    classes: tuple[int, ...]  # the fold's C classes
    position: Ints  # E: index into `classes`; -1 for a row that counts only background
    foreground: Floats  # E x 3: TP, FP, FN of the row's class
    background: Floats  # E x 3: the same of the background
    counted: npt.NDArray[np.bool_]  # E: False where a vanished label takes the row out of its class
    knows_background: bool  # False for N-way rows that came without a background row


@dataclass(frozen=True)
class Sums:
    """Pooled counts; `...` is empty, or the resamples."""

    classes: Floats  # ... x C x 3
    background: Floats  # ... x 3; NaN where it is not known


@dataclass(frozen=True)
class FoldScores:
    """Fractions; `...` is empty, or the resamples. NaN where undefined."""

    class_iou: Floats  # ... x C
    miou: Floats
    fg_iou: Floats
    bg_iou: Floats
    fb_iou: Floats


def prepare(episodes: pd.DataFrame, classes: Sequence[int], rules: ScoringRules = NEUTRAL) -> Rows:
    """The rows of one fold under the rules. Raises `RecordError` for a class that is not one of the fold's."""
    class_id = episodes["class_id"].to_numpy(np.int64)
    counts = episodes[COUNTS].to_numpy(np.int64)
    index = {c: i for i, c in enumerate(classes)} | {BACKGROUND_CLASS: -1}
    foreign = sorted(set(np.unique(class_id).tolist()) - set(index))
    if foreign:
        raise RecordError(f"expected class_id to be one of the fold's classes {list(classes)}, found {foreign[:5]}")
    known = np.array(sorted(index))
    position = np.array([index[c] for c in known.tolist()])[np.searchsorted(known, class_id)]

    tp, fp, fn, tn, ignored_fg, ignored_bg = counts.T
    is_class = position >= 0
    several_ways = not is_class.all()  # then rows of class 0 count the background as a class of its own
    if rules.ignore_label == "background":
        ignored_true = np.where(is_class, 0, ignored_fg)  # predicted background: right, now
        ignored_missed = np.where(is_class, 0, ignored_bg)
        tp, fn, tn = tp + ignored_true, fn + ignored_missed, tn + ignored_bg
        fp = fp + np.where(is_class, ignored_fg, 0)
    counted = is_class & ((tp + fn > 0) | (rules.vanished_label == "keep"))
    confusion = np.stack([tp, fp, fn], -1)
    background = confusion * ~is_class[:, None] if several_ways else np.stack([tn, fn, fp], -1)
    knows_background = several_ways or not episodes.duplicated(["run", "episode"]).any()
    add = _as_mean if rules.accumulation == "episode" else _as_sum
    return Rows(
        tuple(classes), position, add(confusion * counted[:, None]), add(background), counted, bool(knows_background)
    )


def _as_sum(counts: Ints) -> Floats:
    return counts.astype(np.float64)


def _as_mean(counts: Ints) -> Floats:
    """Counts whose pooled IoU is the mean of the rows' IoUs: each row has a union of 1, or of 0 if it has none."""
    each = np.nan_to_num(iou(counts))
    return np.stack([each, (counts.sum(-1) > 0) - each, np.zeros_like(each)], -1)


def pool(rows: Rows, groups: Ints | None = None, weights: Floats | None = None) -> Sums:
    """Sums of counts by class. `weights` (R x n) says how often each of n groups of rows counts in R resamples.

    `groups` (E) says which group a row belongs to; a group is all rows of one query image. Ten times as fast where
    the weights of an image are contiguous in memory.
    """
    if weights is None or groups is None:
        classes = np.stack([rows.foreground[rows.position == i].sum(0) for i in range(len(rows.classes))])
        return Sums(classes, rows.background.sum(0) if rows.knows_background else np.full(3, np.nan))
    kinds = len(rows.classes) + 1  # the last one is the background
    by_group = np.zeros((weights.shape[1], kinds, 3))  # rows are summed by group first: n are multiplied, not E
    ours = rows.position >= 0
    np.add.at(by_group, (groups[ours], rows.position[ours]), rows.foreground[ours])
    np.add.at(by_group[:, -1], groups, rows.background)
    used = np.flatnonzero(np.bincount(groups, minlength=len(by_group)))
    drawn = (by_group[used].reshape(len(used), -1).T @ weights.T[used]).T.reshape(-1, kinds, 3)  # R x kinds x 3
    background = drawn[:, -1]
    return Sums(drawn[:, :-1], background if rows.knows_background else np.full_like(background, np.nan))


def score(sums: Sums, rules: ScoringRules = NEUTRAL) -> FoldScores:
    """IoU by class, their mean, and FB-IoU, of one fold (or of many resamples of one fold)."""
    class_iou = iou(sums.classes)
    if rules.absent_class == "zero":
        class_iou = np.nan_to_num(class_iou, nan=0.0)
    fg, bg = iou(sums.classes.sum(-2)), iou(sums.background)
    return FoldScores(class_iou, class_mean(class_iou, rules), fg, bg, (fg + bg) / 2)


def class_mean(class_iou: Floats, rules: ScoringRules = NEUTRAL) -> Floats:
    """Plain mean over the last axis; classes that are NaN are left out, or make the mean NaN."""
    if rules.absent_class != "skip":
        return np.asarray(class_iou.mean(-1))
    known = ~np.isnan(class_iou)
    number = known.sum(-1)
    total = np.where(known, class_iou, 0.0).sum(-1)
    mean: Floats = np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)
    return mean


def summarise(
    episodes: pd.DataFrame,
    fold_classes: Mapping[int, Sequence[int]],
    rules: ScoringRules = NEUTRAL,
    *,
    every_fold: bool = True,
) -> dict[str, Any]:
    """All numbers of a result, as plain values: fractions, or None where a number does not exist.

    `episodes` has `records.COLUMNS`; `fold_classes` gives the classes of every fold of the bank. Without an episode
    of some fold there is no overall mean, unless `every_fold` is False (some codes then average what there is, or
    count absent classes as 0).
    Several runs (seeds) are scored one by one and averaged, as PANet and BAM do; `std` is over runs (n - 1).

    >>> frame = pd.DataFrame([[0, 0, 0, 0, 1, 7, "q", "s", 8, 1, 2, 89, 0, 0]],
    ...     columns=["fold", "run", "episode", "group", "way", "class_id", "query", "supports", *COUNTS])
    >>> summary = summarise(frame, {0: [7]})
    >>> round(summary["miou"], 4), round(summary["fb_iou"], 4), summary["episodes"]
    (0.7273, 0.8473, 1)
    """
    foreign = sorted(set(episodes["fold"].unique().tolist()) - set(fold_classes))
    if foreign:
        raise RecordError(f"expected folds of the bank {sorted(fold_classes)}, found fold {foreign[0]}")
    runs = [_score_run(part, fold_classes, rules, every_fold) for _, part in episodes.groupby("run", sort=True)]
    if not runs:
        runs = [_score_run(episodes, fold_classes, rules, every_fold)]
    held = by_fold(episodes)
    return {
        "miou": _mean([run["miou"] for run in runs]),
        "miou_std": _std([run["miou"] for run in runs]),
        "fb_iou": _mean([run["fb_iou"] for run in runs]),
        "fb_iou_std": _std([run["fb_iou"] for run in runs]),
        "episodes": sum(_episodes(part) for part in held.values()),
        "runs": len(runs),
        "missing_folds": sorted(set(fold_classes) - set(held)),
        "folds": {
            str(fold): {
                **{
                    key: _mean([run["folds"][fold][key] for run in runs])
                    for key in ("miou", "fb_iou", "fg_iou", "bg_iou")
                },
                "episodes": _episodes(part),
                "classes": {
                    str(c): _mean([run["folds"][fold]["classes"][c] for run in runs]) for c in fold_classes[fold]
                },
                "absent": sorted(set(fold_classes[fold]) - set(part["class_id"].tolist())),
                "vanished": int(_lacking(part).sum()),
                **({"false_positive_rate": false_positive_rate(part)} if rules.negatives else {}),
            }
            for fold, part in held.items()
        },
        **({"false_positive_rate": _mean([false_positive_rate(p) for p in held.values()])} if rules.negatives else {}),
        "rules": {name: value for name, value in asdict(rules).items() if name != "negatives"},
    }


def false_positive_rate(episodes: pd.DataFrame) -> float | None:
    """Of the pixels of queries that lack the class asked for, the share that was taken for it; 255 left out.

    None if no query lacks its class.
    """
    fp, tn = (int(episodes.loc[_lacking(episodes), name].sum()) for name in ("fp", "tn"))
    return fp / (fp + tn) if fp + tn else None


def _lacking(episodes: pd.DataFrame) -> pd.Series:
    """Which rows are of a class that their query does not show."""
    return (episodes["tp"] + episodes["fn"] == 0) & (episodes["class_id"] != BACKGROUND_CLASS)


def by_fold(episodes: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The rows of each fold, folds in order."""
    return {fold: episodes[episodes["fold"] == fold] for fold in sorted({int(f) for f in episodes["fold"].tolist()})}


def _score_run(
    episodes: pd.DataFrame, fold_classes: Mapping[int, Sequence[int]], rules: ScoringRules, every_fold: bool
) -> dict[str, Any]:
    parts = by_fold(episodes)
    sums = {fold: pool(prepare(part, fold_classes[fold], rules)) for fold, part in parts.items()}
    scores = {fold: score(part, rules) for fold, part in sums.items()}
    whole = parts and (set(parts) == set(fold_classes) or not every_fold)
    return {
        "miou": _overall_miou(scores, fold_classes, rules) if whole else None,
        "fb_iou": _overall_fb(sums, scores, rules) if whole else None,
        "folds": {
            fold: {
                "miou": float(got.miou),
                "fb_iou": float(got.fb_iou),
                "fg_iou": float(got.fg_iou),
                "bg_iou": float(got.bg_iou),
                "classes": dict(zip(fold_classes[fold], got.class_iou.tolist(), strict=True)),
            }
            for fold, got in scores.items()
        }
        | {fold: _no_scores(fold_classes[fold]) for fold in fold_classes if fold not in parts},
    }


def _overall_miou(
    scores: Mapping[int, FoldScores], fold_classes: Mapping[int, Sequence[int]], rules: ScoringRules
) -> float:
    if rules.averaging != "classes":
        return float(np.mean([got.miou for got in scores.values()]))
    missing = [np.full(len(fold_classes[fold]), np.nan) for fold in fold_classes if fold not in scores]
    every = np.concatenate([*(got.class_iou for got in scores.values()), *missing])
    if rules.absent_class == "zero":
        every = np.nan_to_num(every, nan=0.0)
    return float(class_mean(every, rules))


def _overall_fb(sums: Mapping[int, Sums], scores: Mapping[int, FoldScores], rules: ScoringRules) -> float:
    if rules.fb_pooling == "fold":
        return float(np.mean([got.fb_iou for got in scores.values()]))
    foreground = np.sum([part.classes.sum(-2) for part in sums.values()], axis=0)
    background = np.sum([part.background for part in sums.values()], axis=0)
    return float((iou(foreground) + iou(background)) / 2)


def _no_scores(classes: Sequence[int]) -> dict[str, Any]:
    return {"miou": None, "fb_iou": None, "fg_iou": None, "bg_iou": None, "classes": dict.fromkeys(classes)}


def _episodes(part: pd.DataFrame) -> int:
    return len(part[["fold", "run", "episode"]].drop_duplicates())


def _known(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return known if known and len(known) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return None if known is None else float(np.mean(known))


def _std(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return None if known is None or len(known) < 2 else float(np.std(known, ddof=1))
