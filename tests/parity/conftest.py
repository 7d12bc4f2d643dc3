"""`--cases DIR` runs another folder of parity cases of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import CASES

from fssbench.parity.case import find_cases


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=Path, default=CASES, help="folder of parity cases [tests/parity/cases]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_file" in metafunc.fixturenames:
        files = find_cases(metafunc.config.getoption("--cases", default=CASES))
        both = [(file, route) for file in files for route in ("whole", "cached")]
        slow = [
            pytest.mark.slow if _size(file) > 200 or (route == "cached" and "5shot" in file.name) else ()
            for file, route in both
        ]
        params = [
            pytest.param(*each, marks=marks, id=f"{each[0].stem}-{each[1]}")
            for each, marks in zip(both, slow, strict=True)
        ]
        metafunc.parametrize(("case_file", "route"), params)


def _size(file: Path) -> int:
    """Pixels a side, from a name such as pfenet-resnet50-1shot-473-s11: what costs time."""
    return max((int(word) for word in file.stem.split("-") if word.isdecimal()), default=0)
