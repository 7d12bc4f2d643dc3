"""A test may only be skipped for want of something that this machine lacks and that stands in this list."""

from __future__ import annotations

import re

import pytest

ALLOWED = (
    r"no CUDA device on this machine",
    r"no pdflatex on this machine",
    r"no chromium on this machine",
    r"needs the real data",
    r"needs .*, the masks of VOC 2012 and SBD",
    r"the published list is not at ",
    r"the shared cases are not on this machine",
)

_others: set[str] = set()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember a whole file that was skipped with another reason."""
    _remember(report)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a test that was skipped with another reason. (With xdist, reports of all workers come here.)"""
    _remember(report)


def _remember(report: pytest.CollectReport | pytest.TestReport) -> None:
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if reason and not any(re.search(allowed, reason) for allowed in ALLOWED):
        _others.add(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run with such a skip fails."""
    if _others and exitstatus == pytest.ExitCode.OK and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name them."""
    for line in sorted(_others):
        terminalreporter.write_line(f"SKIPPED WITHOUT LEAVE {line}", red=True)
