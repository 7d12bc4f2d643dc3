"""Every method gives what its authors' code gave, by both paths that episodes can take."""

from __future__ import annotations

from pathlib import Path

import pytest

from fssbench.parity.case import Path_, load_case
from fssbench.parity.compare import RUNNERS, compare


@pytest.mark.parametrize("path", ["whole", "cached"])
def test_method_equals_its_authors_code(case_file: Path, path: Path_) -> None:
    case = load_case(case_file)
    if case.meta["method"] not in RUNNERS:
        pytest.skip(f"no runner for {case.meta['method']}")
    rows = list(compare(case.through(path)))
    assert rows
    assert [row for row in rows if not row.passed] == []
