"""One number over several data sets and shots: the mean of the boards of one protocol, with its interval and ranks.

Shots of a bank share its queries, so their errors are taken together; data sets share no image and add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fssbench.names import SEPARATOR
from fssbench.reports.entries.rankings import Bank, Board, Ranked
from fssbench.reports.entries.scores import Score
from fssbench.scoring.clusters import Clusters, build_clusters
from fssbench.scoring.intervals import add_variance, standard_errors
from fssbench.scoring.paired import Measured, bounds, possible_ranks


@dataclass(frozen=True, eq=False)
class Line:
    """One method (backbone, kind of weights, annotation) on the boards; without a mean while one is missing."""

    cells: tuple[Ranked | None, ...]
    mean: Score
    rank: int | None = None
    ranks: tuple[int, int] | None = None

    @property
    def entry(self) -> Ranked:
        """The first of its results."""
        return next(cell for cell in self.cells if cell is not None)


@dataclass(frozen=True, eq=False)
class Overall:
    """All boards of one protocol and way, and the methods on them, best mean first."""

    protocol: str
    way: int
    boards: tuple[tuple[Bank, Board], ...]
    lines: tuple[Line, ...]


def overall(banks: Sequence[Bank]) -> list[Overall]:
    """An overall table for every protocol and way with several boards.

    Boards that were run in part stay out, and those with one result: nothing can be compared there.
    """
    groups: dict[tuple[str, int], list[tuple[Bank, Board]]] = {}
    for bank in banks:
        for board in bank.boards:
            if not board.part and board.ranked > 1:
                groups.setdefault((bank.protocol, board.way), []).append((bank, board))
    found = [Overall(*key, tuple(boards), _lines(boards)) for key, boards in groups.items() if len(boards) > 1]
    return [each for each in found if any(line.rank for line in each.lines)]


def _lines(boards: Sequence[tuple[Bank, Board]]) -> tuple[Line, ...]:
    cells: dict[tuple[str, ...], list[Ranked | None]] = {}
    for number, (_, board) in enumerate(boards):
        for entry in sorted(board.entries, key=lambda one: (one.run.created, one.slug)):  # the oldest, never the best
            held = cells.setdefault(_method(entry), [None] * len(boards))
            held[number] = held[number] or (None if entry.rank is None else entry)
    kept = [tuple(each) for each in cells.values() if any(each)]
    whole = [each for each in kept if all(each)]
    scores = _means(boards, whole)
    values = [score.value or 0.0 for score, _ in scores]
    lines = [
        Line(each, score, 1 + sum(other > (score.value or 0.0) for other in values), ranks)
        for each, (score, ranks) in zip(whole, scores, strict=True)
    ]
    lines.sort(key=lambda line: (line.rank or 0, line.entry.title))
    rest = sorted((Line(each, Score(None)) for each in kept if not all(each)), key=lambda line: line.entry.title)
    return (*lines, *rest)


def _method(entry: Ranked) -> tuple[str, ...]:
    setting = entry.first.setting
    return setting.method, setting.backbone, setting.weights, setting.annotation, setting.supervision


def _means(
    boards: Sequence[tuple[Bank, Board]], lines: Sequence[Sequence[Ranked | None]]
) -> list[tuple[Score, tuple[int, int] | None]]:
    """The mean of each line with its interval, and the ranks that tests of all pairs leave open."""
    slugs = [bank.slug for bank, _ in boards]
    weights = [1 / (len(set(slugs)) * slugs.count(slug)) for slug in slugs]  # each data set once, its shots alike
    means = [
        sum(w * (cell.scores.miou.value or 0.0) for w, cell in zip(weights, line, strict=True) if cell)
        for line in lines
    ]
    held: dict[tuple[int, ...], tuple[pd.DataFrame, Clusters]] = {}
    measured = [_together(slugs, weights, line, held) for line in lines]
    known = [each for each in measured if each is not None]
    if len(known) < len(lines) or not known:
        return [(Score(mean), None) for mean in means]
    ranks = possible_ranks(known) if len(known) > 1 else [(1, 1)]
    return [(_score(each), rank) for each, rank in zip(known, ranks, strict=True)]


def _together(
    slugs: Sequence[str],
    weights: Sequence[float],
    line: Sequence[Ranked | None],
    held: dict[tuple[int, ...], tuple[pd.DataFrame, Clusters]],
) -> Measured | None:
    """The results of one line as one result, whose number is their weighted mean.

    `held` are the rows of earlier lines, by the frames that they were made of: most lines are on the same episodes.
    """
    parts = [cell.measured for cell in line if cell is not None and cell.measured is not None]
    if len(parts) < len(line) or any("mean" not in part.names for part in parts):
        return None
    frames = tuple(id(part.episodes) for part in parts)
    if frames not in held:
        apart = [_apart(part.episodes, slug) for part, slug in zip(parts, slugs, strict=True)]
        rows = pd.concat(apart, ignore_index=True)
        held[frames] = rows, build_clusters(rows)
    rows, clusters = held[frames]
    return Measured(
        episodes=rows,
        clusters=clusters,
        names=("mean",),
        value=np.array([sum(w * part.value[0] for w, part in zip(weights, parts, strict=True))]),
        influence=np.concatenate([w * part.influence for w, part in zip(weights, parts, strict=True)]),
        between=np.array([sum(w**2 * part.between[0] for w, part in zip(weights, parts, strict=True))]),
        trainings=min(part.trainings for part in parts),
    )


def _apart(rows: pd.DataFrame, slug: str) -> pd.DataFrame:
    """Rows whose images and folds are those of one bank only."""
    supports = [SEPARATOR.join(f"{slug}/{name}" for name in names.split(SEPARATOR)) for names in rows["supports"]]
    queries = [f"{slug}/{name}" for name in rows["query"]]
    return rows.assign(query=queries, supports=supports, fold=[f"{slug}/{fold}" for fold in rows["fold"]])


def _score(measured: Measured) -> Score:
    error, freedom = standard_errors(measured.influence, measured.clusters)
    more = np.array([max(measured.trainings - 1.0, 1.0)])
    error, freedom = add_variance(error, freedom, measured.between, more)
    value = float(measured.value[0])
    low, high = bounds(value, float(error[0]), float(freedom[0]), 0.95)
    return Score(value, max(low, 0.0), min(high, 1.0))
