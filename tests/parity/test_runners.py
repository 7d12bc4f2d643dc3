"""No case is passed over in silence: every file has a runner, and they are counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from repository import CASES, shared

from fssbench.parity.case import find_cases, load_case
from fssbench.parity.compare import runner_names

SHARED = (shared() or Path()) / "parity" / "cases"
FEWEST = {"bam": 5, "dcama": 4, "hdmnet": 4, "hsnet": 6, "panet": 6, "pfenet": 6, "ssp": 4}  # of files here


def counted(folder: Path) -> Counter[str]:
    return Counter(str(load_case(file).meta["method"]).lower() for file in find_cases(folder))


def test_every_case_here_has_a_runner_and_none_has_gone() -> None:
    found = counted(CASES)
    assert sorted(set(found) - set(runner_names())) == []
    assert {name: found[name] for name in FEWEST if found[name] < FEWEST[name]} == {}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared cases are not on this machine")
def test_every_shared_case_has_a_runner() -> None:
    assert sorted(set(counted(SHARED)) - set(runner_names())) == []
