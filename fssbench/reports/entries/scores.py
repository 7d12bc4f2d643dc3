"""The numbers of an entry as the leaderboard shows them: those of the report, and how episodes are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fssbench.reports.entries.lines import scores_of as of_line
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.reports.entries.uncertainty import evaluated
from fssbench.scoring.metrics import BACKGROUND_CLASS
from fssbench.scoring.paired import Measured
from fssbench.scoring.pixels import iou

STEPS = 20  # of the histogram over episodes


@dataclass(frozen=True)
class Score:
    """A fraction and its 95 % interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassScore:
    """One class: its IoU, its episodes, and how many of them fall into each twentieth of IoU."""

    fold: int
    class_id: int
    name: str
    episodes: int
    score: Score
    histogram: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything that a page shows of a result's numbers."""

    miou: Score
    fb_iou: Score
    folds: dict[int, Score]
    classes: tuple[ClassScore, ...]
    episodes: int
    ious: npt.NDArray[np.float32]  # of every row of the first training, over all trainings
    trainings: int = 1
    training_std: float | None = None


def scores_of(results: Sequence[Result], with_intervals: bool = True) -> tuple[Scores, Measured | None, pd.DataFrame]:
    """Scores over all trainings, the very numbers and intervals of the report; what tests need, if intervals are
    wanted; and the episodes of the first training."""
    bank = results[0].run.bank
    line = of_line(results)
    frames = [episodes_of(result) for result in results]
    bounds, measured = evaluated(results, frames) if with_intervals else ({}, None)

    def score(name: str) -> Score:
        value, bound = line.numbers.get(name), bounds.get(name)
        return Score(value) if bound is None or value is None else Score(value, bound.low, bound.high)

    held = {int(fold) for result in results for fold in result.summary.folds}
    counts, histograms = _by_class(pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0])
    scores = Scores(
        miou=score("mean"),
        fb_iou=score("fb"),
        folds={fold: score(f"fold {fold}") for fold in bank.folds if fold in held},
        classes=tuple(
            ClassScore(
                fold=fold,
                class_id=class_id,
                name=bank.class_names.get(class_id, f"class {class_id}"),
                episodes=counts.get((fold, class_id), 0),
                score=score(f"class {class_id}"),
                histogram=histograms.get((fold, class_id), (0,) * STEPS),
            )
            for fold in sorted(held)
            for class_id in bank.folds[fold]
        ),
        episodes=sum(result.summary.episodes for result in results),
        ious=_mean_ious(frames),
        trainings=line.trainings,
        training_std=line.training_std,
    )
    return scores, measured, frames[0]


def episode_iou(rows: pd.DataFrame) -> pd.Series:
    """IoU of every row by itself; NaN where neither truth nor prediction holds the class."""
    return pd.Series(iou(rows[["tp", "fp", "fn"]].to_numpy()), index=rows.index)


def _mean_ious(frames: Sequence[pd.DataFrame]) -> npt.NDArray[np.float32]:
    """IoU of every row of the first training, in its order, over all trainings that hold the same episodes."""
    same = [frame for frame in frames if len(frame) == len(frames[0])]
    return np.asarray(np.mean([episode_iou(frame).to_numpy() for frame in same], axis=0), dtype=np.float32)


def _by_class(rows: pd.DataFrame) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], tuple[int, ...]]]:
    """By fold and class: how many rows, and how many of them fall into each of `STEPS` equal steps of IoU.

    1.0 belongs to the last step, rows without an IoU to none.
    """
    fold, class_id = rows["fold"].to_numpy(), rows["class_id"].to_numpy()
    width = 1 + class_id.max(initial=0)
    places, codes = np.unique(fold * width + class_id, return_inverse=True)
    values = episode_iou(rows).to_numpy()
    step = np.minimum(np.nan_to_num(values * STEPS), STEPS - 1).astype(np.int64)
    known = np.isfinite(values) & (class_id != BACKGROUND_CLASS)
    flat = np.bincount(codes[known] * STEPS + step[known], minlength=len(places) * STEPS).reshape(-1, STEPS)
    names = [divmod(place, int(width)) for place in places.tolist()]
    return (
        dict(zip(names, np.bincount(codes, minlength=len(places)).tolist(), strict=True)),
        dict(zip(names, map(tuple, flat.tolist()), strict=True)),
    )
