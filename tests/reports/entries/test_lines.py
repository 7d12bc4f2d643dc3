"""Lines of a table: trainings together, in the order asked for, as the filters leave them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import fssbench
from synthetic_records import with_weights

from fssbench.records import Record
from fssbench.regime import Regime
from fssbench.reports.entries.choose import ordered
from fssbench.reports.entries.lines import lines_of
from fssbench.reports.entries.results import load_results
from fssbench.reports.tables.layouts import fold_tables

Make = Callable[..., Record]
OURS = Regime(source="fssbench", dataset="shapes5i", recipe="lite", seed=0)


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


def test_a_line_stands_where_the_mean_of_its_trainings_puts_it(make_record: Make, tmp_path: Path) -> None:
    for seed, iou in enumerate((0.3, 0.8)):
        make_record(tmp_path / f"uneven-{seed}", method="panet", seed=seed, fold_iou=dict.fromkeys(range(4), iou))
    make_record(tmp_path / "even", method="canet", fold_iou=dict.fromkeys(range(4), 0.6))
    lines = lines_of(ordered(load_results(tmp_path), "mean"))
    assert [line.setting.method for line in lines] == ["canet", "panet"]


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
