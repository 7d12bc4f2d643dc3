"""The papers' own comparison tables: right rows and cells, and what was measured in the row where it belongs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import fssbench

from fssbench.protocols import CANET
from fssbench.records import Record
from fssbench.regime import Regime
from fssbench.registry import find_method, method_names
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.paper import find_paper, papers
from fssbench.reports.papers.registry import ROUNDING
from fssbench.reports.tables.model import Table
from fssbench.reports.tables.paper import fill, paper_tables

Make = Callable[..., Record]


def cells(table: Table, label: str) -> list[str]:
    row = next(row for row in table.rows if row.cells[0].text == label)
    return [cell.text for cell in row.cells[1:]]


def measured_rows(folder: Path, paper: str, table: int) -> list[str]:
    """Labels of the rows that a record stands in."""
    return [one.label for one in fill(find_paper(paper).tables[table], load_results(folder)) if one.line]


def test_every_published_method_has_its_paper_and_the_facts_agree_with_the_methods_own() -> None:
    for name in method_names():
        info = find_method(name).info
        if info.baseline:
            continue
        paper = papers()[name]
        assert (paper.title, paper.venue, paper.year, paper.url, paper.code or None) == (
            info.paper, info.venue, info.year, info.url, info.code
        ), name  # fmt: skip


def test_every_row_holds_a_published_number() -> None:
    empty = [
        (paper.method, table.title, row.name, row.backbone)
        for paper in papers().values()
        for table in paper.tables
        for row in table.rows
        if not any(table.published(row, shot) for shot in table.shots)
    ]
    assert empty == []


def test_the_means_of_rows_with_values_of_their_own_are_the_means_of_their_folds() -> None:
    checked = 0
    for paper in papers().values():
        for table in paper.tables:
            for row in table.rows:
                for shot in table.shots if row.values else ():
                    spans = {part: span.low for part, span in table.published(row, shot).items()}
                    folds = [value for part, value in spans.items() if part.startswith("fold")]
                    if len(folds) == 4 and "mean" in spans:
                        assert abs(sum(folds) / 4 - spans["mean"]) <= ROUNDING, (paper.method, row)
                        checked += 1
    assert checked >= 20


def test_canets_table_has_its_layout_its_authors_rerun_and_names_what_is_missing() -> None:
    table = paper_tables(find_paper("CANet"), [])[0]
    assert [row.cells[0].text for row in table.rows] == [
        "OSLSM", "co-FCN", "SG-One", "CANet, single scale (its author's rerun)", "CANet, multi-scale test",
    ]  # fmt: skip
    # The author in issue 4 of his repository; 5 shots were never rerun.
    assert cells(table, "CANet, single scale (its author's rerun)")[1:] == [
        "49.56", "64.97", "49.83", "51.49", "53.96", *["-"] * 5
    ]  # fmt: skip
    assert cells(table, "SG-One")[1:6] == ["~40.2", "~58.4", "~48.4", "~38.4", "46.3"]  # the abstract has the mean only
    assert any("single scale (its author's rerun) ResNet50 (5-shot all)" in note for note in table.notes)
    assert any("fssbench reproduce canet" in note for note in table.notes)


def test_a_source_stands_beside_the_cells_that_it_prints() -> None:
    origins = paper_tables(find_paper("sgone"), [])[-1]
    said = {tuple(cell.text for cell in row.cells[:5]) for row in origins.rows}
    assert ("SG-One", "VGG16", "1-shot mean", "read", "SG-One abstract (arXiv 1810.09091)") in said
    recalled = next(row for row in said if row[0] == "SG-One" and row[3] == "memory" and "1-shot fold 0" in row[2])
    assert "1-shot mean" not in recalled[2]


def test_a_record_fills_the_row_of_its_method_with_its_differences(make_record: Make, tmp_path: Path) -> None:
    regime = Regime(source="fssbench", dataset="pascal5i")
    make_record(tmp_path / "a", "canet", title="CANet", weights="checkpoint", regime=regime, dataset="pascal5i",
                fold_iou={0: 0.4, 1: 0.5, 2: 0.6, 3: 0.7})  # fmt: skip
    tables = paper_tables(find_paper("canet"), load_results(tmp_path))
    assert cells(tables[0], "CANet, single scale (its author's rerun)")[6] == "55.0"
    assert cells(tables[0], "CANet, multi-scale test")[6] == "-"  # in one row only
    assert tables[1].title.startswith("Measured beside")
    words = " ".join(row.cells[1].text for row in tables[1].rows)
    assert "protocol (fssbench, not canet" in words and "backbone" not in words


def test_what_all_measured_rows_differ_in_is_said_once(make_record: Make, tmp_path: Path) -> None:
    for name, title in (("sgone", "SG-One"), ("canet", "CANet"), ("oslsm", "OSLSM")):
        make_record(tmp_path / name, name, title=title, backbone="efficientnet_lite0", dataset="pascal5i",
                    weights="checkpoint", complete=False, note="no bus")  # fmt: skip
    differs = paper_tables(find_paper("canet"), load_results(tmp_path))[1]
    said = {row.cells[0].text: row.cells[1].text for row in differs.rows}
    assert "images (incomplete bank: no bus)" in said["all 3"]
    assert [text.count("no bus") for text in said.values()].count(1) == 1
    assert (
        "not VGG16" in said["OSLSM and SG-One"] and "not ResNet50" in said["CANet, single scale (its author's rerun)"]
    )
    assert len(differs.rows) <= 2**3 - 1


def test_a_record_under_the_papers_protocol_does_not_differ_in_it(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "canet", title="CANet", dataset="pascal5i", protocol=CANET, weights="checkpoint")
    differs = [one.differs for one in fill(find_paper("canet").tables[0], load_results(tmp_path)) if one.line]
    assert not any(word.startswith("protocol") for word in differs[0])


def test_ablations_boxes_and_untrained_weights_go_to_their_own_rows(make_record: Make, tmp_path: Path) -> None:
    for refinements in (0, 4):
        make_record(tmp_path / "c" / str(refinements), "canet", title="CANet", config={"refinements": refinements},
                    dataset="pascal5i", weights="checkpoint")  # fmt: skip
    assert measured_rows(tmp_path / "c", "canet", 3) == ["no refinement", "4 refinements"]
    make_record(tmp_path / "b", "panet", title="PANet", dataset="pascal5i", annotation="box", weights="checkpoint")
    assert measured_rows(tmp_path / "b", "panet", 5) == ["bounding box"]
    make_record(tmp_path / "u", "panet", title="PANet", dataset="pascal5i")
    assert measured_rows(tmp_path / "u", "panet", 0) == ["PANet-init"]


def test_another_data_set_or_way_and_seen_classes_fill_no_row(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "d", "canet", title="CANet", dataset="shapes5i")
    make_record(tmp_path / "w", "canet", title="CANet", dataset="pascal5i", way=2)
    assert measured_rows(tmp_path, "canet", 0) == []


def test_the_command_prints_tables_csv_and_json_without_any_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "### PFENet (TPAMI 2020): mIoU on PASCAL-5i" in fssbench("report", "--paper", "pfenet").out
    rows = list(csv.DictReader(fssbench("report", "--paper", "canet", "-f", "csv").out.splitlines()))
    assert len(rows) == len(json.loads(fssbench("report", "--paper", "canet", "--json").out)) == 77
    assert {row["certainty"] for row in rows} == {"read", "memory", "hole"}
    assert "canet" in fssbench("report", "--paper", "canett", status=2).said


def test_bibtex_names_the_first_author_and_the_venue() -> None:
    assert papers()["canet"].bibtex.startswith("@inproceedings{zhang2019canet,\n")
    assert "booktitle = {CVPR}" in papers()["canet"].bibtex
    assert "@article{tian2020pfenet" in papers()["pfenet"].bibtex
