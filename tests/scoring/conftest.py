"""`pytest tests/scoring --metric-cases FILE` checks another file of cases in the form of `metric_cases.json`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "metric_cases.json"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case, of the file named on the command line or of ours."""
    if "metric_case" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--metric-cases", default=None)
        cases = json.loads(Path(chosen or CASES).read_text(encoding="utf-8"))["cases"]
        metafunc.parametrize("metric_case", cases, ids=[case["name"] for case in cases])
