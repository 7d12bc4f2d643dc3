"""`fssbench agreement`: do methods stand in the papers' order on our episodes? Spearman's rank correlation, by shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata, spearmanr

from fssbench.errors import UsageError
from fssbench.progress import Progress, quiet
from fssbench.reports.entries.lines import Entry, entries_of, method_label, title
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.reports.entries.uncertainty import LEVEL, resamples_of
from fssbench.reports.papers.beside import TRAINING_FREE
from fssbench.reports.papers.registry import PaperScores, scores_for
from fssbench.reports.studies.comparison import check_comparable
from fssbench.scoring.clusters import Floats, build_clusters
from fssbench.scoring.intervals import statistics
from fssbench.scoring.rules import rules_of

LEAST = 4  # methods, below which an order says nothing
# Whose numbers of a paper: the backbone that most of the methods were published with comes first.
BACKBONES = ("resnet50", "vgg16", "resnet101")


@dataclass(frozen=True)
class Standing:
    """One method: its mIoU here and in its paper, in fractions, and its rank in both (1 is the best, ties shared)."""

    name: str
    ours: float
    paper: float
    backbone: str  # of the paper's number
    verified: bool  # the paper's number was read from a source
    our_rank: float
    paper_rank: float


@dataclass(frozen=True)
class Agreement:
    """The order of the methods of one set of results, all on the same episodes, against the papers'."""

    results: tuple[Result, ...]
    papers_dataset: str
    standings: tuple[Standing, ...]  # best of ours first
    left_out: tuple[str, ...]  # methods without a number in the papers
    spearman: float
    low: float  # of the interval over test images
    high: float


def agreement(results: Sequence[Result], papers_dataset: str = "pascal5i", track: Progress = quiet) -> Agreement:
    """How far results of one shot stand in the papers' order. Only methods trained (or training-free) as in the papers.

    The interval is the percentile interval over resampled test images, drawn alike for all methods; that of the papers'
    numbers is not known, and neither is what another training would give.

    Raises `UsageError` for fewer than four methods with a number in the papers, `RecordError` for different episodes.
    """
    chosen, left_out = [], []
    for entry in entries_of([result for result in results if _as_the_papers_do(result)]):
        scores = _paper(entry.first, papers_dataset)
        if scores is None or scores.miou is None:
            left_out.append(method_label(entry.first.setting))
        else:
            chosen.append((entry, scores, scores.miou))
    if len(chosen) < LEAST:
        raise UsageError(
            f"{title(results[0].place)}, {results[0].shot}-shot: expected at least {LEAST} methods with a number in "
            f"the papers, trained as there, found {len(chosen)}"
        )
    check_comparable([entry.first for entry, _, _ in chosen])
    ours, draws = zip(*(_means(entry) for entry, _, _ in track(chosen, "measuring")), strict=True)
    theirs = np.array([span.middle for _, _, span in chosen])
    each = [float(spearmanr(draw, theirs).statistic) for draw in np.stack(draws, 1)]
    low, high = np.quantile(each, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    columns = zip(chosen, ours, _ranks(np.array(ours)), _ranks(theirs), strict=True)
    standings = [
        Standing(method_label(entry.first.setting), value, span.middle / 100, scores.backbone, span.verified, *ranks)
        for (entry, scores, span), value, *ranks in columns
    ]
    return Agreement(
        results=tuple(entry.first for entry, _, _ in chosen),
        papers_dataset=papers_dataset,
        standings=tuple(sorted(standings, key=lambda standing: -standing.ours)),
        left_out=tuple(dict.fromkeys(left_out)),
        spearman=float(spearmanr(ours, theirs).statistic),
        low=float(low),
        high=float(high),
    )


def _as_the_papers_do(result: Result) -> bool:
    return result.setting.weights in ("checkpoint", "authors") or result.run.method.name in TRAINING_FREE


def _paper(result: Result, dataset: str) -> PaperScores | None:
    found = scores_for(result.setting, replace(result.place, dataset=dataset), result.shot)
    return next((found[key] for key in (*BACKBONES, *found) if key in found and found[key].miou), None)


def _means(entry: Entry) -> tuple[float, Floats]:
    """The mean over trainings, and in every resample of the images. Equal episodes draw equal weights."""
    values, draws = [], []
    for result in entry.results:
        bank, episodes = result.run.bank, episodes_of(result)
        found = statistics(episodes, bank.folds, resamples_of(build_clusters(episodes)), rules_of(bank.protocol))
        if "mean" not in found.names:
            raise UsageError(f"{result.run.id}: expected every fold of its bank, found {sorted(result.summary.folds)}")
        at = found.names.index("mean")
        values.append(float(found.value[at]))
        draws.append(found.draws[:, at])
    return float(np.mean(values)), np.mean(draws, 0)


def _ranks(values: Floats) -> list[float]:
    return [float(rank) for rank in rankdata(-values)]
