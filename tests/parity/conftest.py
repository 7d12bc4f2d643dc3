"""`--cases DIR` runs another folder of parity cases of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from fssbench.parity.case import find_cases

HERE = Path(__file__).parent / "cases"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=Path, default=HERE, help="folder of parity cases [tests/parity/cases]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_file" in metafunc.fixturenames:
        files = find_cases(metafunc.config.getoption("--cases", default=HERE))
        metafunc.parametrize("case_file", files, ids=[file.stem for file in files])
