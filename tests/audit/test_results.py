"""The records of this repository."""

from __future__ import annotations

import pytest
from command_line import fssbench
from repository import ROOT


@pytest.mark.slow
def test_no_number_of_this_repositorys_results_has_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert fssbench("audit", "results").out.rstrip().endswith(" records, 0 findings")
