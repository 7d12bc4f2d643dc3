"""Every method gives what its authors' code gave, by both paths that episodes can take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from fssbench.parity import recipe
from fssbench.parity.case import Route, load_case
from fssbench.parity.compare import compare


@pytest.fixture(scope="module", autouse=True)
def _weights_are_drawn_once() -> Iterator[None]:
    """Cases of one architecture and seed follow each other, and drawing their weights takes longer than the rest."""
    drawn = lru_cache(maxsize=1)(lambda shapes, *how: real(dict(shapes), *how))
    real = recipe.state_dict

    def kept(shapes: Mapping[str, tuple[int, ...]], *how: Any) -> dict[str, Any]:
        found = drawn(tuple((name, tuple(shape)) for name, shape in shapes.items()), *how)
        return {name: value.copy() for name, value in found.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "state_dict", kept)
        yield


def test_method_equals_its_authors_code(case_file: Path, route: Route) -> None:
    case = load_case(case_file)
    rows = list(compare(case.through(route)))
    assert rows
    assert [row for row in rows if not row.passed] == []
