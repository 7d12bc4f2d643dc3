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
    """Intervals of the mean over seeds, by name: "mean", "fb", "fold 0", "class 7"; see `scoring.intervals`."""
    bank = results[0].run.bank
    frames = [episodes_of(result) for result in results]
    for number, frame in enumerate(frames):  # every seed counts as further runs
        frame["run"] += number * (1 + int(frame["run"].max()))
    return intervals(
        pd.concat(frames, ignore_index=True),
        bank.folds,
        np.random.default_rng(SEED),
        rules or rules_of(bank.protocol),
        level=LEVEL,
    )
