"""Entries of a board: their badges, scores and ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import with_weights

from fssbench.audit.judge import audit
from fssbench.records import Record
from fssbench.regime import Regime
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import load_results
from fssbench.reports.entries.uncertainty import result_intervals
from fssbench.reports.tables.layouts import fold_tables

Make = Callable[..., Record]
OURS = Regime(source="fssbench", dataset="shapes5i", recipe="lite", seed=0)


@pytest.mark.parametrize(
    ("weights", "source", "trained", "origin"),
    [
        ("checkpoint", "authors", "authors", "reproduced"),
        ("checkpoint", "fssbench", "trained", "reproduced"),
        ("external", None, "external", "external"),
        ("imagenet", None, "untrained", "reproduced"),
    ],
)
def test_a_badge_says_where_weights_and_code_are_from(
    make_record: Make, tmp_path: Path, weights: str, source: Any, trained: str, origin: str
) -> None:
    record = make_record(tmp_path / "a", weights=weights)
    if source:
        with_weights(record, regime=Regime(source=source))
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    (entry,) = bank.boards[0].entries
    assert (entry.trained, entry.origin) == (trained, origin)


def test_report_and_site_show_the_same_interval_to_the_last_digit(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    results = load_results(tmp_path)
    (bank,) = collect(results)
    shown, bound = bank.boards[0].entries[0].scores.miou, result_intervals(results)["mean"]
    assert (shown.low, shown.high) == (bound.low, bound.high)


def test_a_checkpoint_trained_on_tested_classes_is_marked_and_never_ranked(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "clean", "clean", miou=0.4)
    seen = make_record(tmp_path / "seen", "seen", miou=0.9, weights="checkpoint")
    with_weights(seen, regime=OURS.model_copy(update={"fold": 0, "classes": {6: "class 6", 11: "class 11"}}))
    (table,) = fold_tables(load_results(tmp_path))
    row = next(row for row in table.rows if row.cells[0].text.startswith("seen"))
    assert row.kind == "seen" and "saw test classes" in row.cells[0].text
    assert all(cell.rank == 0 for cell in row.cells)
    assert any("class 11 and class 6" in note for note in table.notes)
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    assert [(e.title, e.rank) for e in bank.boards[0].entries] == [("seen", None), ("clean", 1)]
    fields = [finding.field for finding in audit(tmp_path).findings]
    assert fields == ["weights.1.contaminated", "weights.2.contaminated"]
