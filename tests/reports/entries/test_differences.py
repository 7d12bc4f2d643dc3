"""Differences between two protocols, as a reader is told them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fssbench.protocols import FSSBENCH
from fssbench.reports.entries.differences import draw_differences, rule_differences


def stored(**changes: Any) -> dict[str, Any]:
    """A protocol as a record holds it."""
    return json.loads(FSSBENCH.model_copy(update=changes).model_dump_json())  # type: ignore[no-any-return]


def test_a_protocol_does_not_differ_from_itself() -> None:
    assert draw_differences(stored(), FSSBENCH) == [] == rule_differences(stored(), FSSBENCH)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (1, 2, 3)}, f"seeds (1 2 3, not {' '.join(map(str, FSSBENCH.seeds))})"),
        ({"filter_query": not FSSBENCH.filter_query},
         f"whether the filter binds queries ({'no' if FSSBENCH.filter_query else 'yes'}, not "
         f"{'yes' if FSSBENCH.filter_query else 'no'})"),
        ({"pool": ""}, f"images (none, not {FSSBENCH.pool})"),
        ({"min_area": 0}, f"smallest object (0, not {FSSBENCH.min_area})"),
    ],
)  # fmt: skip
def test_values_are_said_as_words_never_as_python_writes_them(changes: dict[str, Any], said: str) -> None:
    assert draw_differences(stored(**changes), FSSBENCH) == [said]


def test_rules_that_a_report_can_make_equal_are_told_apart_from_the_draw() -> None:
    ours = stored(averaging="classes")
    assert draw_differences(ours, FSSBENCH) == []
    assert rule_differences(ours, FSSBENCH) == [f"averaging (classes, not {FSSBENCH.averaging})"]
