"""The spread that the choice of the support causes, against numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import fssbench
from PIL import Image
from synthetic_records import shifted_record
from toy_data import make_bank

from fssbench.errors import RecordError
from fssbench.records import COLUMNS, write_record
from fssbench.reports.entries.results import load_results
from fssbench.reports.studies.sensitivity import extremes, sensitivity, spread, widest
from fssbench.reports.tables.sensitivity import sensitivity_tables

Make = Callable[..., Any]


def rows_of(percent: Sequence[Sequence[int]], class_id: int = 1, fold: int = 0) -> pd.DataFrame:
    """One query a list, one support a number: the IoU in per cent, as counts over a union of 100 px."""
    rows = []
    for group, ious in enumerate(percent):
        for value in ious:
            counts = [value, 100 - value, 0, 900, 0, 0]
            rows.append([fold, 0, len(rows), group, 1, class_id, f"q{group}", f"s{len(rows)}", *counts])
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_deviation_is_that_within_queries_not_between_them() -> None:
    """Queries of 10 and 30, and of 70 and 90: variance 200 within each, (40, 20, 20, 40)^2 around the mean of 50."""
    found = spread(rows_of([[10, 30], [70, 90]]), "class")
    assert (found.queries, found.supports) == (2, 2.0)
    assert found.iou == pytest.approx(0.5)
    assert found.deviation == pytest.approx(200**0.5 / 100)
    assert found.span == pytest.approx(0.2)
    assert found.share == pytest.approx(200 / (4000 / 3))


def test_equal_supports_cause_no_spread() -> None:
    found = spread(rows_of([[40, 40, 40], [80, 80, 80]]), "class")
    assert (found.deviation, found.span, found.share) == (0.0, 0.0, 0.0)
    assert spread(rows_of([[50, 50]]), "class").share is None


def test_extremes_are_the_worst_and_best_episode_of_each_query() -> None:
    worst, best = extremes(rows_of([[10, 30, 20], [90, 70, 80]]))
    assert worst["episode"].tolist() == [0, 4]
    assert best["episode"].tolist() == [1, 3]


def test_miou_with_the_best_and_the_worst_support_are_pooled_over_queries(make_record: Make, tmp_path: Path) -> None:
    """Class 1: queries of 10 and 30, 70 and 90; class 2: 40 and 60. Equal unions, so pooling is the mean."""
    record = make_record(tmp_path / "r", folds=[0], bank_folds=[0], classes_per_fold=2)
    first, second = rows_of([[10, 30], [70, 90]], 1), rows_of([[40, 60]], 2)
    second[["episode", "group"]] += [4, 2]
    write_record(record.path, record.run, pd.concat([first, second]))
    (result,) = load_results(tmp_path)
    found = sensitivity(result)
    assert found.miou == pytest.approx((0.5 + 0.5) / 2)
    assert found.miou_worst == pytest.approx((0.4 + 0.4) / 2)
    assert found.miou_best == pytest.approx((0.6 + 0.6) / 2)
    assert [one.name for one in found.classes] == ["class 1", "class 2"]
    assert [one.queries for one in (found.overall, *found.classes)] == [3, 2, 1]


def test_the_widest_queries_come_first(make_record: Make, tmp_path: Path) -> None:
    record = make_record(tmp_path / "r", folds=[0], bank_folds=[0], classes_per_fold=1)
    write_record(record.path, record.run, rows_of([[10, 30], [20, 90], [50, 55]]))
    (result,) = load_results(tmp_path)
    found = widest(result, 2)
    assert [(one.worst, one.best) for one in found] == [(2, 3), (0, 1)]
    assert [round(one.span, 9) for one in found] == [0.7, 0.2]


def test_a_bank_with_one_support_a_query_is_named_with_the_way_out(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r")
    (result,) = load_results(tmp_path)
    with pytest.raises(RecordError, match="--supports-per-query"):
        sensitivity(result)


def test_the_command_prints_a_table_and_draws_both_supports(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.h5", episodes=4, shots=2, repeats=3)
    shifted_record(bank, tmp_path / "results")
    printed = fssbench("sensitivity", tmp_path / "results", "--bank", bank, "--out", tmp_path / "out").out
    assert "| Shifted" in printed
    assert "| red" in printed
    (picture,) = (tmp_path / "out").iterdir()
    with Image.open(picture) as image:
        assert image.size[0] > 4 * 150  # two supports, truth, prediction
        assert image.size[1] > 8 * 168  # four queries, two supports of each


def test_the_command_gives_the_same_as_json(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.h5", episodes=4, shots=2, repeats=2)
    shifted_record(bank, tmp_path / "results")
    (found,) = json.loads(fssbench("sensitivity", tmp_path / "results", "--json").out)
    (result,) = load_results(tmp_path / "results")
    assert found["miou"] == result.summary.miou
    assert found["miou_worst_support"] < found["miou"] < found["miou_best_support"]
    assert len(found["classes"]) == 4


def test_pictures_need_a_bank_and_a_place(tmp_path: Path, make_record: Make) -> None:
    make_record(tmp_path / "r")
    fssbench("sensitivity", tmp_path / "r", "--out", tmp_path / "out", status=2)


def test_a_result_keeps_its_spread_whatever_else_is_there(make_record: Make, tmp_path: Path) -> None:
    record = make_record(tmp_path / "r", folds=[0], bank_folds=[0], classes_per_fold=1)
    write_record(record.path, record.run, rows_of([[10, 30], [70]]))
    (result,) = load_results(tmp_path)
    assert sensitivity(result).overall.queries == 1
    assert sensitivity(replace(result, seed=7)).overall == sensitivity(result).overall


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
