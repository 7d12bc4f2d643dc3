"""Cells, badges and tables that were wrong once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import fssbench
from repository import ROOT
from synthetic_records import shifted_record
from toy_data import make_bank

from fssbench.audit.judge import audit
from fssbench.errors import UsageError
from fssbench.records import Record, find_records, read_run
from fssbench.regime import Regime
from fssbench.reports.board.build import build_site
from fssbench.reports.board.paper import paper_of
from fssbench.reports.entries.choose import ordered
from fssbench.reports.entries.lines import entries_of, lines_of
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import load_results
from fssbench.reports.entries.uncertainty import result_intervals
from fssbench.reports.formats.latex import to_latex
from fssbench.reports.formats.markdown import to_markdown
from fssbench.reports.papers.beside import beside
from fssbench.reports.pictures.plots import shots
from fssbench.reports.pictures.style import style
from fssbench.reports.render import render
from fssbench.reports.studies.comparison import compare, sets_to_compare
from fssbench.reports.studies.sensitivity import sensitivity
from fssbench.reports.tables.layouts import View, fold_tables
from fssbench.reports.tables.model import Cell, Column, Row, Table
from fssbench.reports.tables.sensitivity import sensitivity_tables

Make = Callable[..., Record]
OURS = Regime(source="fssbench", dataset="shapes5i", recipe="lite", seed=0)


def rewrite(record: Record, **changes: Any) -> None:
    """Change fields of a record's run.json."""
    run = record.run.model_copy(update=changes)
    (record.path / "run.json").write_text(run.model_dump_json(), encoding="utf-8")


def with_weights(record: Record, **changes: Any) -> None:
    """Change fields of every fold's weights; `sha` is one letter of their hash."""
    sha = changes.pop("sha", None)
    update = changes | ({"sha256": sha * 64} if sha else {})
    rewrite(record, weights={f: entry.model_copy(update=update) for f, entry in record.run.weights.items()})


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


def test_external_masks_pass_the_audit(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", weights="external")
    assert audit(tmp_path).findings == ()


def test_the_audit_of_this_repositorys_results_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows on rendered figures are judged against their bank's index; photographs' banks stay with their owners."""
    monkeypatch.chdir(ROOT)
    judged = json.loads(fssbench("audit", "--json").out)
    rendered = {
        run.bank.fingerprint for path in find_records(Path("results/lite/shapes5i")) for run in [read_run(path)]
    }
    assert rendered and not rendered & set(judged["unjudged"])


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


def test_numbers_that_no_machine_explains_are_a_finding(make_record: Make, tmp_path: Path) -> None:
    iou = dict.fromkeys(range(4), 0.5)
    make_record(tmp_path / "first", fold_iou=iou)
    again = make_record(tmp_path / "second", fold_iou=iou | {2: 0.6})
    rewrite(again, environment=again.run.environment.model_copy(update={"host": "elsewhere"}))
    (found,) = audit(tmp_path).findings
    assert found.file == "second/run.json" and "near 50.00, found 60.00" in found.problem


def test_two_trainings_stored_fold_by_fold_are_one_row_with_a_mean_and_its_deviation(
    make_record: Make, tmp_path: Path
) -> None:
    for training, iou in (("a", 0.4), ("b", 0.6)):
        for fold in range(4):
            record = make_record(
                tmp_path / f"{training}{fold}", weights="checkpoint", folds=[fold], fold_iou={fold: iou},
                created=f"2026-01-0{1 + (training == 'b')}T00:00:00Z",
            )  # fmt: skip
            with_weights(record, regime=OURS, sha=training)
    (line,) = lines_of(load_results(tmp_path))
    scores = line.scores(1)
    assert scores is not None and scores.trainings == 2
    assert (scores.mean, scores.training_std) == (pytest.approx(0.5), pytest.approx(0.2 / 2**0.5))
    assert "±: standard deviation over 2 trainings." in fold_tables(load_results(tmp_path))[0].notes


def test_plots_and_boards_show_the_mean_over_trainings_never_the_best(make_record: Make, tmp_path: Path) -> None:
    for shot in (1, 5):
        for seed, iou in enumerate((0.3, 0.4, 0.8)):
            make_record(tmp_path / f"{shot}-{seed}", shot=shot, seed=seed, fold_iou=dict.fromkeys(range(4), iou))
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    assert [len(board.entries) for board in bank.boards] == [1, 1]
    with style():
        figure = shots(bank)
    assert figure is not None
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert list(line.get_ydata()) == pytest.approx([50.0, 50.0])


def test_a_line_stands_where_the_mean_of_its_trainings_puts_it(make_record: Make, tmp_path: Path) -> None:
    for seed, iou in enumerate((0.3, 0.8)):
        make_record(tmp_path / f"uneven-{seed}", method="panet", seed=seed, fold_iou=dict.fromkeys(range(4), iou))
    make_record(tmp_path / "even", method="canet", fold_iou=dict.fromkeys(range(4), 0.6))
    lines = lines_of(ordered(load_results(tmp_path), "mean"))
    assert [line.setting.method for line in lines] == ["canet", "panet"]


def test_runs_of_a_protocol_are_not_called_trainings(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", runs=5, episodes=5)
    (table,) = fold_tables(load_results(tmp_path))
    assert "±: standard deviation over 5 runs (seeds of the episodes) of one training." in table.notes


def test_a_relation_network_is_found_among_published_numbers(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "fss1000", title="Relation network", dataset="fss1000", folds=[0], bank_folds=[0])
    (line,) = lines_of(load_results(tmp_path))
    assert beside(line) is not None


def test_batch_normalisation_in_a_backbones_name_hides_no_paper_on_the_site(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "pfenet", title="PFENet", dataset="pascal5i", backbone="vgg16_bn")
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    assert paper_of(bank.boards[0].entries[0]) is not None


def test_one_ordinary_record_does_not_end_the_sensitivity_of_others(make_record: Make, tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.h5", episodes=4, shots=2, repeats=3)
    shifted_record(bank, tmp_path / "r")
    make_record(tmp_path / "r" / "ordinary")
    printed = fssbench("sensitivity", tmp_path / "r")
    assert "Shifted" in printed.out and "left out: 1" in printed.err


def test_results_that_differ_in_weights_only_keep_their_columns(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.h5", episodes=4, shots=2, repeats=3)
    shifted_record(bank, tmp_path / "r")
    (result,) = load_results(tmp_path / "r")
    found = sensitivity(result)
    _, by_class = sensitivity_tables([found, found])
    assert len(by_class.columns) == 3  # class and two results
    assert {len(row.cells) for row in by_class.rows} == {3}


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


def test_a_site_among_the_records_is_no_record(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", episodes=5)
    build_site(load_results(tmp_path), tmp_path / "site", with_intervals=False)
    assert len(load_results(tmp_path)) == 1
    assert audit(tmp_path).findings == ()


def test_intervals_by_class_are_in_csv_and_json(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    found, view = load_results(tmp_path), View(intervals=True)
    rows = list(csv.DictReader(io.StringIO(render("csv", found, view, per_class=True))))
    assert len(rows) == 20 and all(float(row["low"]) <= float(row["iou"]) <= float(row["high"]) for row in rows)
    data = json.loads(render("json", found, view, per_class=True))
    assert [row["class"] for row in data["tables"][0]["rows"]] == [row["class"] for row in rows]
    with pytest.raises(UsageError, match="no source prints IoU by class"):
        render("csv", found, View(published=True), per_class=True)


def test_report_and_site_show_the_same_interval_to_the_last_digit(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    results = load_results(tmp_path)
    (bank,) = collect(results)
    shown, bound = bank.boards[0].entries[0].scores.miou, result_intervals(results)["mean"]
    assert (shown.low, shown.high) == (bound.low, bound.high)


def test_overlapping_folders_hold_a_record_once_and_folds_of_two_merge(make_record: Make, tmp_path: Path) -> None:
    iou = dict.fromkeys(range(4), 0.5)
    make_record(tmp_path / "one" / "a", folds=[0, 1], fold_iou=iou)
    make_record(tmp_path / "two" / "b", folds=[2, 3], fold_iou=iou)
    (result,) = load_results(tmp_path, tmp_path / "one", tmp_path / "two")
    assert result.repeats == () and result.summary.miou == pytest.approx(0.5)


def test_an_unreadable_record_is_skipped_with_a_warning(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{")
    told: list[str] = []
    assert len(load_results(tmp_path, skipped=told.append)) == 1
    assert len(told) == 1 and "run.json" in told[0]


def test_shots_are_compared_apart_and_trainings_together(make_record: Make, tmp_path: Path) -> None:
    for shot in (1, 5):
        for name in ("one", "two"):
            for seed in (1, 2):
                make_record(tmp_path / f"{name}{shot}{seed}", name, shot=shot, seed=seed, episodes=5)
    sets = sets_to_compare(load_results(tmp_path))
    assert [len(entries_of(each)) for each in sets] == [2, 2]
    assert all(len({result.shot for result in each}) == 1 for each in sets)
    found = compare(sets[0])
    assert len(found.pairs) == 1 and len(found.ranks) == 2


def test_a_baseline_is_compared_with_each_other_result(make_record: Make, tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "two", "three")):
        make_record(tmp_path / name, name, seed=seed, episodes=5)
    pairs = compare(load_results(tmp_path), against="base").pairs
    assert [pair.second.split(",")[0] for pair in pairs] == ["base", "base"]
    with pytest.raises(UsageError, match="unknown result 'bass'"):
        compare(load_results(tmp_path), against="bass")


def test_a_verdict_on_one_training_speaks_of_its_weights(make_record: Make, tmp_path: Path) -> None:
    from fssbench.reports.tables.comparison import comparison_tables

    make_record(tmp_path / "a", "weak", miou=0.3, episodes=60)
    make_record(tmp_path / "b", "strong", miou=0.7, weights="checkpoint", episodes=60, seed=1)
    told = to_markdown(comparison_tables(compare(load_results(tmp_path))))
    assert "The weights of strong" in told and "how much other trainings differ" in told


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


def test_links_images_and_stars_of_a_record_stay_text() -> None:
    def table(word: str) -> Table:
        return Table(word, (Column("a", numeric=False),), (Row((Cell(word),)), Row((Cell(word),))))

    told = to_markdown([table("![x](http://evil) [y](http://evil) < 0.001 `z`")])
    assert r"!\[x\](http" in told and r"\[y\](http" in told and r"\`z\`" in told and "< 0.001" in told
    assert r"\\" + "\n*" not in to_latex([table("*starred")])
    assert "{*}starred" in to_latex([table("*starred")])


def test_filters_leave_what_was_asked_for(make_record: Make, tmp_path: Path) -> None:
    for seed, (name, backbone) in enumerate((("panet", "vgg16"), ("panet", "resnet50"), ("hsnet", "resnet50"))):
        make_record(tmp_path / str(seed), name, backbone=backbone, seed=seed, episodes=5)

    def rows(*words: str) -> list[tuple[str, str]]:
        printed = fssbench("report", tmp_path, "--format", "csv", *words).out
        return [(row["method"], row["backbone"]) for row in csv.DictReader(io.StringIO(printed))]

    assert rows("--method", "PANet", "--backbone", "vgg16") == [("panet", "vgg16")]
    assert rows("--method", "hsnet,panet", "--backbone", "resnet50") == [("hsnet", "resnet50"), ("panet", "resnet50")]
    assert len(rows("--sort", "mean")) == 3
    assert "did you mean 'panet'" in fssbench("report", tmp_path, "--method", "panett", status=2).err


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
