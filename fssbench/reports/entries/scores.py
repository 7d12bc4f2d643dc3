"""The numbers of an entry as the leaderboard shows them: those of the report, and how episodes are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fssbench.reports.entries.lines import scores_of as of_line
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.reports.entries.uncertainty import result_intervals
from fssbench.scoring.metrics import BACKGROUND_CLASS
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


@dataclass(frozen=True)
class Scores:
    """Everything that a page shows of a result's numbers."""

    miou: Score
    fb_iou: Score
    folds: dict[int, Score]
    classes: tuple[ClassScore, ...]
    episodes: int
    trainings: int = 1
    training_std: float | None = None


def scores_of(results: Sequence[Result], with_intervals: bool = True) -> Scores:
    """Scores over all trainings, the very numbers and intervals of the report."""
    bank = results[0].run.bank
    measured = of_line(results)
    bounds = result_intervals(results) if with_intervals else {}
    episodes = pd.concat([episodes_of(result) for result in results], ignore_index=True)

    def score(name: str, value: float | None) -> Score:
        bound = bounds.get(name)
        return Score(value) if bound is None or value is None else Score(value, bound.low, bound.high)

    held = {int(fold) for result in results for fold in result.summary.folds}
    by_class = dict(iter(episodes.groupby(["fold", "class_id"])))
    return Scores(
        miou=score("mean", measured.mean),
        fb_iou=score("fb", measured.fb_iou),
        folds={fold: score(f"fold {fold}", value) for fold, value in measured.folds.items() if fold in held},
        classes=tuple(
            ClassScore(
                fold=fold,
                class_id=class_id,
                name=bank.class_names.get(class_id, f"class {class_id}"),
                episodes=0 if mine is None else len(mine),
                score=score(f"class {class_id}", measured.classes[class_id]),
                histogram=histogram(episodes[:0] if mine is None else mine),
            )
            for fold in sorted(held)
            for class_id in bank.folds[fold]
            for mine in [by_class.get((fold, class_id))]
        ),
        episodes=sum(result.summary.episodes for result in results),
        trainings=measured.trainings,
        training_std=measured.training_std,
    )


def episode_iou(rows: pd.DataFrame) -> pd.Series:
    """IoU of every row by itself; NaN where neither truth nor prediction holds the class."""
    return pd.Series(iou(rows[["tp", "fp", "fn"]].to_numpy()), index=rows.index)


def histogram(rows: pd.DataFrame) -> tuple[int, ...]:
    """How many episodes fall into each of `STEPS` equal steps of IoU; 1.0 belongs to the last."""
    values = episode_iou(rows[rows["class_id"] != BACKGROUND_CLASS]).dropna()
    return tuple(int(count) for count in np.histogram(values, bins=STEPS, range=(0.0, 1.0))[0])
