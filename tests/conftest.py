"""Options of the test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--metric-cases FILE`: check scoring against another file in the form of `tests/scoring/metric_cases.json`."""
    parser.addoption("--metric-cases", default=None, help="JSON file of masks and what published metric codes gave")
