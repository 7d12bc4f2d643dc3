"""The number that a method's paper reports, beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from fssbench.reports.results import Result


@dataclass(frozen=True)
class Paper:
    """A published mIoU. `text` shows it (a range where sources disagree); fractions throughout."""

    value: float
    text: str
    source: str
    verified: bool
    note: str
    difference: float | None


def paper_of(result: Result, ours: float | None) -> Paper | None:
    """What the paper reports for this method, backbone, data set, way and shot; None if it reports nothing."""
    return None
