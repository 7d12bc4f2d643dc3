"""The numbers of one result as the leaderboard shows them: recomputed from counts, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fssbench.reports.entries.results import Result, episodes_of
from fssbench.scoring.intervals import intervals
from fssbench.scoring.metrics import BACKGROUND_CLASS, summarise
from fssbench.scoring.pixels import iou
from fssbench.scoring.rules import rules_of

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


def scores_of(result: Result, with_intervals: bool = True) -> Scores:
    """Scores under the result's own protocol. The intervals' resamples are the same in every build."""
    run, episodes = result.run, episodes_of(result)
    rules = rules_of(run.bank.protocol)
    summary = summarise(episodes, run.bank.folds, rules)
    bounds = intervals(episodes, run.bank.folds, np.random.default_rng(0), rules) if with_intervals else {}

    def score(name: str, value: float | None) -> Score:
        bound = bounds.get(name)
        return Score(value) if bound is None or value is None else Score(value, bound.low, bound.high)

    return Scores(
        miou=score("mean", summary["miou"]),
        fb_iou=score("fb", summary["fb_iou"]),
        folds={int(fold): score(f"fold {fold}", got["miou"]) for fold, got in summary["folds"].items()},
        classes=tuple(
            ClassScore(
                fold=int(fold),
                class_id=int(class_id),
                name=run.bank.class_names.get(int(class_id), f"class {class_id}"),
                episodes=int(mine.sum()),
                score=score(f"class {class_id}", value),
                histogram=histogram(episodes[mine]),
            )
            for fold, got in summary["folds"].items()
            for class_id, value in got["classes"].items()
            for mine in [(episodes["fold"] == int(fold)) & (episodes["class_id"] == int(class_id))]
        ),
        episodes=summary["episodes"],
    )


def episode_iou(rows: pd.DataFrame) -> pd.Series:
    """IoU of every row by itself; NaN where neither truth nor prediction holds the class."""
    return pd.Series(iou(rows[["tp", "fp", "fn"]].to_numpy()), index=rows.index)


def histogram(rows: pd.DataFrame) -> tuple[int, ...]:
    """How many episodes fall into each of `STEPS` equal steps of IoU; 1.0 belongs to the last."""
    values = episode_iou(rows[rows["class_id"] != BACKGROUND_CLASS]).dropna()
    return tuple(int(count) for count in np.histogram(values, bins=STEPS, range=(0.0, 1.0))[0])
