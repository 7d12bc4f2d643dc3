"""The number that a method's paper reports, beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from fssbench.reports.entries.results import Result
from fssbench.reports.papers.registry import paper_scores, plain


@dataclass(frozen=True)
class Paper:
    """A published mIoU. `text` shows it in per cent (a range where sources disagree); the rest are fractions."""

    value: float
    text: str
    source: str
    verified: bool
    note: str
    difference: float | None  # ours minus the paper's; the middle of a range


def paper_of(result: Result, ours: float | None) -> Paper | None:
    """What the paper reports for this method, backbone, data set, way and shot; None if it reports nothing."""
    run = result.run
    for name in (run.method.name, run.method.title):
        found = paper_scores(name, run.bank.dataset, run.way, run.shot, run.annotation).get(plain(run.backbone))
        if found is not None and found.miou is not None:
            break
    else:
        return None
    span = found.miou
    value = span.middle / 100
    return Paper(
        value=value,
        text=f"{span.low:.1f}" if span.low == span.high else f"{span.low:.1f}–{span.high:.1f}",
        source=f"{found.venue} {found.year}; " + ("; ".join(found.sources) or "no source at hand"),
        verified=span.verified,
        note="" if span.verified else "Known from memory only, not checked against a source.",
        difference=None if ours is None else ours - value,
    )
