"""Intervals of what a table shows: over all seeds of a line, with a fixed generator, so that output repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fssbench.reports.entries.results import Result, episodes_of
from fssbench.scoring.intervals import Interval, intervals
from fssbench.scoring.rules import ScoringRules, rules_of

SEED = 20_260_101
LEVEL = 0.95


def result_intervals(results: Sequence[Result], rules: ScoringRules | None = None) -> dict[str, Interval]:
    """Intervals of the mean over trainings, by name: "mean", "fb", "fold 0", "class 7"; see `scoring.intervals`.

    With several trainings the interval is about further trainings on further images; with one, about these weights.
    """
    bank = results[0].run.bank
    rules = rules or rules_of(bank.protocol)
    frames = [episodes_of(result) for result in results]
    for number, frame in enumerate(frames):  # every seed counts as further runs
        frame["run"] += number * (1 + int(frame["run"].max()))
    return intervals(
        pd.concat(frames, ignore_index=True),
        bank.folds,
        np.random.default_rng(SEED),
        rules,
        level=LEVEL,
        between=_between(results) if len(results) > 1 else None,
    )


def _between(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Variance of each number's mean over trainings, from their spread, and its degrees of freedom."""
    values: dict[str, list[float]] = {}
    for result in results:
        numbers: dict[str, float | None] = {"mean": result.summary.miou, "fb": result.summary.fb_iou}
        for fold, part in result.summary.folds.items():
            numbers |= {f"fold {fold}": part.miou, f"fold {fold} fb": part.fb_iou}
            numbers |= {f"class {c}": value for c, value in part.classes.items()}
        for name, value in numbers.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    count = len(results)
    return {
        name: (float(np.var(each, ddof=1)) / count, count - 1.0) for name, each in values.items() if len(each) == count
    }
