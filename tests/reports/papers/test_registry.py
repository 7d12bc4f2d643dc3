"""The registry of published numbers: clean, consistent, and used with care."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import shared

from fssbench.records import Record
from fssbench.registry import find_method, method_names
from fssbench.reports.entries.lines import lines_of
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.beside import beside, sentence
from fssbench.reports.papers.registry import NAMES, ROUNDING, PublishedResult, paper_scores, plain, published_results
from fssbench.reports.tables.layouts import View, fold_tables

Make = Callable[..., Record]
LIST = (shared() or Path()) / "published_results.csv"


def test_no_number_is_in_the_registry_twice() -> None:
    fields = set(PublishedResult.model_fields) - {"source", "source_kind", "note", "misprint"}
    rows = Counter(str(row.model_dump(include=fields)) for row in published_results())
    assert [row for row, count in rows.items() if count > 1] == []


def test_printed_means_are_the_means_of_their_folds_unless_marked_as_misprints() -> None:
    wrong = []
    for row in published_results():
        folds = [fold for fold in row.folds if fold is not None]
        if len(folds) == 4 and row.mean is not None and (abs(sum(folds) / 4 - row.mean) > ROUNDING) != row.misprint:
            wrong.append(row)
    assert wrong == []
    assert sum(row.misprint for row in published_results()) == 3


def test_every_row_holds_a_number_and_a_source() -> None:
    assert len(published_results()) >= 510
    for row in published_results():
        assert row.mean is not None or any(fold is not None for fold in row.folds)
        assert row.source == row.source.strip() and row.method == row.method.strip()


def test_every_method_with_a_paper_has_published_numbers() -> None:
    known = {plain(row.method) for row in published_results()}
    for name in method_names():
        info = find_method(name).info
        assert info.baseline or {plain(info.title), plain(NAMES.get(name, name))} & known, name


@pytest.mark.skipif(not LIST.exists(), reason="the shared cases are not on this machine")
def test_the_registry_has_the_numbers_of_the_list_it_was_made_from_and_no_others() -> None:
    """The registry has once what the list prints twice, from two sources, and says more of each (role, annotation)."""
    with LIST.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("fold0", "fold1", "fold2", "fold3", "mean")
    listed = {
        (row["method"], row["backbone"], row["dataset"].lower().replace("-", ""), int(row["way"]), int(row["shot"]),
         row["metric"].lower().replace("-", "_"), *(float(row[c]) if row[c] else None for c in columns))
        for row in rows
    }  # fmt: skip
    ours = {
        (row.method, row.backbone, row.dataset, row.way, row.shot, row.metric, *row.folds, row.mean)
        for row in published_results()
    }
    assert len(rows) > 500 and ours == listed


def test_numbers_recalled_from_memory_are_unverified() -> None:
    kinds = {row.source_kind: row.verified for row in published_results()}
    assert kinds == {"original-paper": True, "repo-readme": True, "later-paper-table": True, "memory": False}


@pytest.mark.parametrize(
    ("name", "shot", "backbone", "mean"),
    # As the papers' abstracts and the authors' README print them.
    [("panet", 1, "vgg16", 48.1), ("panet", 5, "vgg16", 55.7), ("canet", 1, "resnet50", 55.4),
     ("sgone", 1, "vgg16", 46.3), ("rpmms", 1, "resnet50", 56.34), ("HSNet", 1, "resnet50", 64.0)],
)  # fmt: skip
def test_a_method_is_found_by_registry_name_or_title(name: str, shot: int, backbone: str, mean: float) -> None:
    span = paper_scores(name, "pascal5i", 1, shot)[backbone].miou
    assert span is not None and (span.low, span.high, span.verified) == (mean, mean, True)


def test_sources_that_disagree_give_a_range() -> None:
    repri = paper_scores("repri", "pascal5i", 1, 1)["resnet50"]
    assert repri.miou is not None
    assert (repri.miou.low, repri.miou.high) == (59.1, 59.7)  # the authors' README, and the VAT paper


def test_weak_supervision_is_not_mixed_with_masks() -> None:
    box = paper_scores("panet", "pascal5i", 1, 1, "box")["vgg16"].miou
    assert box is not None and box.low == box.high == 45.1


def test_reruns_and_models_that_saw_test_classes_do_not_widen_the_range() -> None:
    span = paper_scores("hsnet", "pascal5i", 1, 1)["resnet101"].miou
    assert span is not None and span.low == span.high == 66.2  # not 68.7 (SegGPT's run), not 65.3 (a retest)


def test_the_papers_row_stands_under_ours_with_the_difference(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "pmms", title="PMMs", dataset="pascal5i", weights="checkpoint",
                fold_iou=dict.fromkeys(range(4), 0.5))  # fmt: skip
    (table, _) = fold_tables(load_results(tmp_path), View(published=True))
    assert [row.kind for row in table.rows] == ["ours", "published", "difference"]
    # The authors' README, ResNet-50, 1 shot: 51.98, 67.54, 51.54, 49.81, mean 55.22; it prints no FB-IoU.
    assert [cell.text for cell in table.rows[1].cells][3:] == ["51.98", "67.54", "51.54", "49.81", "55.22", "-"]
    assert [cell.text for cell in table.rows[2].cells][3:] == ["-2.0", "-17.5", "-1.5", "+0.2", "-5.2", "-"]


def test_what_differs_from_the_paper_is_said_in_words(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", title="PANet", dataset="pascal5i", backbone="efficientnet_lite0")
    (line,) = lines_of(load_results(tmp_path))
    paper = beside(line)
    assert paper is not None
    text = "; ".join([sentence(paper), *paper.differs])
    assert "backbone (efficientnet_lite0, not VGG16)" in text
    assert "ours is untrained" in text
    assert "protocol (fssbench, not panet); scored at original size, not at 417x417 px" in text
    assert "images (default, not trainaug)" in text
    assert "from memory" in text  # the folds of the PANet paper were never read


def test_memory_and_disagreement_are_visible_in_the_cells(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "repri", title="RePRI", dataset="pascal5i")
    make_record(tmp_path / "b", title="PANet", dataset="pascal5i", backbone="vgg16")
    (table, _) = fold_tables(load_results(tmp_path), View(published=True))
    printed = [[cell.text for cell in row.cells] for row in table.rows if row.kind == "published"]
    assert printed[0][2:8] == ["published, partly unverified", "~42.3", "~58.0", "~51.1", "~41.2", "48.1"]
    assert printed[1][7] == "59.1–59.7"


def test_a_data_set_without_published_numbers_says_so(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", title="PANet")
    (table,) = fold_tables(load_results(tmp_path), View(published=True))
    assert "No published numbers for these methods on Shapes-5i." in table.notes
