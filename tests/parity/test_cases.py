"""Every method gives what its authors' code gave, by both paths that episodes can take."""

from __future__ import annotations

from pathlib import Path

from fssbench.parity.case import Route, load_case
from fssbench.parity.compare import compare


def test_method_equals_its_authors_code(case_file: Path, route: Route) -> None:
    case = load_case(case_file)
    rows = list(compare(case.through(route)))
    assert rows
    assert [row for row in rows if not row.passed] == []
