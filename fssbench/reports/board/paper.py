"""The number that a method's paper reports, beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from fssbench.reports.entries.lines import Line
from fssbench.reports.entries.rankings import Board, Ranked
from fssbench.reports.papers.beside import beside
from fssbench.reports.papers.registry import PaperScores, all_papers, backbone_key, scores_for


@dataclass(frozen=True)
class Paper:
    """A published mIoU. `text` shows it in per cent (a range where sources disagree); the rest are fractions."""

    value: float
    text: str
    source: str
    verified: bool
    note: str
    difference: float | None  # ours minus the paper's (the middle of a range), where the two can be compared


def paper_of(entry: Ranked) -> Paper | None:
    """What the paper reports for this method, backbone, data set, way and shot; None if it reports nothing."""
    result, ours = entry.first, entry.scores.miou.value
    found = scores_for(result.setting, result.place, result.shot).get(backbone_key(result.run.backbone))
    if found is None or found.miou is None:
        return None
    span = found.miou
    paper = beside(Line(result.place, result.setting, {result.shot: (result,)}))
    comparable = paper is not None and paper.comparable
    value = span.middle / 100
    return Paper(
        value=value,
        text=f"{span.low:.1f}" if span.low == span.high else f"{span.low:.1f}–{span.high:.1f}",
        source=f"{found.venue} {found.year}; " + ("; ".join(found.sources) or "no source at hand"),
        verified=span.verified,
        note="" if span.verified else "Known from memory only, not checked against a source.",
        difference=ours - value if ours is not None and comparable else None,
    )


def published_on(board: Board) -> list[PaperScores]:
    """What papers report on a board's data set, way and shot: on episodes and under rules of their own."""
    return all_papers(board.entries[0].first.place.dataset, board.way, board.shot)
