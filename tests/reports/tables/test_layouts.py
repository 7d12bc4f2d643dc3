"""What tables by fold and by class say beside their numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import rewrite

from fssbench.audit.judge import audit
from fssbench.errors import UsageError
from fssbench.records import Record
from fssbench.reports.entries.results import load_results
from fssbench.reports.render import render
from fssbench.reports.tables.layouts import View, differs_table, fold_tables

Make = Callable[..., Record]


def test_a_repetition_elsewhere_is_told_and_not_averaged(make_record: Make, tmp_path: Path) -> None:
    iou = dict.fromkeys(range(4), 0.5)
    make_record(tmp_path / "first", fold_iou=iou)
    again = make_record(tmp_path / "second", fold_iou=iou | {2: 0.501})
    environment = again.run.environment.model_copy(update={"host": "elsewhere"})
    rewrite(again, environment=environment, created="2026-02-01T00:00:00Z")
    (result,) = load_results(tmp_path)
    assert result.summary.miou == pytest.approx(0.5)
    (table,) = fold_tables([result])
    assert any("Repeated elsewhere" in note and "second" in note for note in table.notes)
    assert audit(tmp_path).findings == ()


def test_runs_of_a_protocol_are_not_called_trainings(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", runs=5, episodes=5)
    (table,) = fold_tables(load_results(tmp_path))
    assert "±: standard deviation over 5 runs (seeds of the episodes) of one training." in table.notes


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, ["ours", "published", "difference"]),
        ({"complete": False, "note": "no bus"}, ["ours", "published"]),
        ({"weights": "imagenet"}, ["ours", "published"]),
        ({"backbone": "efficientnet_lite0"}, ["ours", "published"]),
    ],
)
def test_a_difference_is_printed_only_where_it_says_something(
    make_record: Make, tmp_path: Path, change: dict[str, Any], kinds: list[str]
) -> None:
    base = {"title": "PANet", "dataset": "pascal5i", "backbone": "vgg16", "weights": "checkpoint"}
    make_record(tmp_path / "a", "panet", **(base | change))
    table, differs = fold_tables(load_results(tmp_path), View(published=True))
    assert [row.kind for row in table.rows] == kinds
    if len(kinds) == 3:
        assert table.rows[2].cells[3].text.startswith("~")  # the folds of PANet's paper are known from memory
    assert differs.columns[1].title == "measured differs from the paper in"


def test_records_on_other_image_files_share_a_table_that_says_so(make_record: Make, tmp_path: Path) -> None:
    for name, method, files in (("a", "panet", "1"), ("b", "canet", "2"), ("c", "pfenet", "")):
        record = make_record(tmp_path / name, method=method)
        rewrite(record, bank=record.run.bank.model_copy(update={"image_fingerprint": files * 64}))
    (table,) = fold_tables(load_results(tmp_path))
    by = f"{'1' * 12}: panet; {'2' * 12}: canet"
    assert f"The image files differ, though not their masks and episodes (image fingerprint {by})." in table.lead
    rewrite(record, bank=record.run.bank.model_copy(update={"image_fingerprint": "2" * 64}))
    (tmp_path / "a" / "run.json").unlink()
    (table,) = fold_tables(load_results(tmp_path))
    assert "image files differ" not in " ".join(table.lead)


def test_intervals_by_class_are_in_csv_and_json(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    found, view = load_results(tmp_path), View(intervals=True)
    rows = list(csv.DictReader(io.StringIO(render("csv", found, view, per_class=True))))
    assert len(rows) == 20 and all(float(row["low"]) <= float(row["iou"]) <= float(row["high"]) for row in rows)
    data = json.loads(render("json", found, view, per_class=True))
    assert [row["class"] for row in data["tables"][0]["rows"]] == [row["class"] for row in rows]
    with pytest.raises(UsageError, match="no source prints IoU by class"):
        render("csv", found, View(published=True), per_class=True)


def test_what_all_measured_rows_differ_in_is_said_once_and_first() -> None:
    table = differs_table("t", {"one": ["own", "images", "images"], "two": ["images"], "three": ["images", "size"]})
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["all 3", "images"], ["one", "own"], ["three", "size"],
    ]  # fmt: skip
    ((alone,),) = [[row.cells[0].text for row in differs_table("t", {"one": ["images"]}).rows]]
    assert alone == "one"
    same = differs_table("t", {"one": ["a", "b"], "two": ["b", "a"], "three": []})
    assert [[cell.text for cell in row.cells] for row in same.rows] == [
        ["one and two", "a; b"], ["three", "nothing that the record knows of"],
    ]  # fmt: skip
