"""Intervals of what a table shows: over all seeds of a line, with a fixed generator, so that output repeats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from fssbench.reports.entries.results import Result, episodes_of, numbers_of
from fssbench.scoring.clusters import Clusters, Floats, build_clusters
from fssbench.scoring.intervals import RESAMPLES, Interval, Resamples, intervals_of, statistics
from fssbench.scoring.paired import Measured, measure
from fssbench.scoring.rules import ScoringRules, rules_of

SEED = 20_260_101
LEVEL = 0.95


def result_intervals(results: Sequence[Result], rules: ScoringRules | None = None) -> dict[str, Interval]:
    """Intervals of the mean over trainings, by name: "mean", "fb", "fold 0", "class 7"; see `scoring.intervals`.

    With several trainings the interval is about further trainings on further images; with one, about these weights.
    """
    return _intervals(results, [episodes_of(result) for result in results], rules)


def evaluated(results: Sequence[Result], frames: Sequence[pd.DataFrame]) -> tuple[dict[str, Interval], Measured]:
    """The intervals of `result_intervals`, and the numbers for tests against others, from one pass over the episodes.

    `frames` are the `episodes_of` each of the results.
    """
    bank = results[0].run.bank
    rules = rules_of(bank.protocol)
    if len(results) > 1:
        return _intervals(results, frames, rules), measure(frames, bank.folds, rules)
    clusters = build_clusters(frames[0])
    found = statistics(frames[0], bank.folds, resamples_of(clusters), rules)
    none = np.zeros(len(found.names))
    measured = Measured(frames[0], clusters, found.names, found.value, found.influence, none, 1)
    return intervals_of(found, clusters, level=LEVEL), measured


@lru_cache(maxsize=4)
def _weights(images: int) -> Floats:
    return np.asfortranarray(np.random.default_rng(SEED).exponential(size=(RESAMPLES, images)))


def resamples_of(clusters: Clusters) -> Resamples:
    """What `resample` draws with `SEED`, kept: many results have the same images."""
    return Resamples(clusters.image, _weights(clusters.images))


def _intervals(
    results: Sequence[Result], frames: Sequence[pd.DataFrame], rules: ScoringRules | None
) -> dict[str, Interval]:
    bank = results[0].run.bank
    rules = rules or rules_of(bank.protocol)
    frames = [frame.copy() for frame in frames]
    for number, frame in enumerate(frames):  # every seed counts as further runs
        frame["run"] += number * (1 + int(frame["run"].max()))
    whole = pd.concat(frames, ignore_index=True)
    clusters = build_clusters(whole)
    found = statistics(whole, bank.folds, resamples_of(clusters), rules)
    return intervals_of(found, clusters, level=LEVEL, between=_between(results) if len(results) > 1 else None)


def _between(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Variance of each number's mean over trainings, from their spread, and its degrees of freedom."""
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in numbers_of(result.summary).items():
            if value is not None:
                values.setdefault(name, []).append(value)
    count = len(results)
    return {
        name: (float(np.var(each, ddof=1)) / count, count - 1.0) for name, each in values.items() if len(each) == count
    }
