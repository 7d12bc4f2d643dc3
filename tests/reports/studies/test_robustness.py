"""Drops from a clean bank and means over a suite: the numbers, their intervals, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench

from fssbench.errors import UsageError
from fssbench.protocols import FSSBENCH, PFENET
from fssbench.records import read_record, write_record
from fssbench.reports.entries.results import load_results
from fssbench.reports.pictures.severity import by_severity
from fssbench.reports.studies.robustness import robustness, suite_lines
from fssbench.scoring.intervals import Interval

FOG = FSSBENCH.but(corruption="queries fog-3 seed 0")
NOISE = FSSBENCH.but(corruption="queries gaussian_noise-5 seed 0")
FOLDS = {"folds": (0, 1), "bank_folds": (0, 1)}


def with_corrupted_names(folder: Path, tag: str) -> None:
    record = read_record(folder)
    frame = record.episodes.assign(query=record.episodes["query"] + tag)
    write_record(folder.with_name(folder.name + "-named"), record.run, frame)
    for path in folder.iterdir():
        path.unlink()


def records(root: Path, make_record) -> Path:  # type: ignore[no-untyped-def]
    make_record(root / "clean", fold_iou={0: 0.5, 1: 0.3}, **FOLDS)
    for name, protocol, tag, iou in (("fog", FOG, "#fog-3", 0.2), ("noise", NOISE, "#gaussian_noise-5", 0.1)):
        make_record(root / name, fold_iou={0: iou, 1: iou}, protocol=protocol, **FOLDS)
        with_corrupted_names(root / name, tag)
    make_record(root / "eroded", fold_iou={0: 0.5, 1: 0.26}, annotation="eroded-3", **FOLDS)
    return root


def test_a_drop_is_the_difference_of_the_means_and_the_mean_of_drops_is_over_conditions(
    tmp_path: Path, make_record
) -> None:  # type: ignore[no-untyped-def]
    (found,) = robustness(load_results(records(tmp_path, make_record)))
    assert found.miou == pytest.approx(0.4)
    drops = {name: drop.difference for name, drop in found.drops.items()}
    assert drops == pytest.approx(
        {"eroded-3": -0.02, "queries fog-3": -0.2, "queries gaussian_noise-5": -0.3, "mean of corruptions": -0.25}
    )


def test_what_is_hard_in_both_cancels(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    make_record(tmp_path / "clean", miou=0.5, episodes=60)
    make_record(tmp_path / "same", miou=0.5, episodes=60, annotation="eroded-1")
    make_record(tmp_path / "other", miou=0.45, episodes=60, annotation="eroded-5", seed=0)
    (found,) = robustness(load_results(tmp_path))
    same, other = found.drops["eroded-1"], found.drops["eroded-5"]
    assert (same.difference, same.low, same.high) == pytest.approx((0, 0, 0))
    assert other.low < other.difference < other.high < 0
    assert other.high - other.low < 0.05


def test_the_mean_over_conditions_that_are_alike_has_their_interval(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    make_record(tmp_path / "clean", miou=0.5, episodes=60)
    for level in (1, 2, 3):
        make_record(tmp_path / str(level), miou=0.45, episodes=60, annotation=f"eroded-{level}")
    (found,) = robustness(load_results(tmp_path))
    one, mean = found.drops["eroded-1"], found.drops["mean of mask qualities"]
    assert (mean.difference, mean.low, mean.high) == pytest.approx((one.difference, one.low, one.high))


def test_a_method_without_a_clean_result_is_refused(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    make_record(tmp_path / "worse", protocol=FOG)
    make_record(tmp_path / "clean", method="sgone")
    with pytest.raises(UsageError, match="clean bank"):
        robustness(load_results(tmp_path))


def test_two_clean_banks_are_not_chosen_between(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    for name in ("one", "two"):
        make_record(tmp_path / name, fingerprint=name[0] * 64)
    make_record(tmp_path / "worse", annotation="eroded-1")
    with pytest.raises(UsageError, match=r"one and .*two differ in their bank alone"):
        robustness(load_results(tmp_path))


def suite(root: Path, make_record, members: dict[str, float]) -> Path:  # type: ignore[no-untyped-def]
    for name, miou in members.items():
        make_record(root / name, dataset=name, miou=miou, **FOLDS)
    return root


def test_a_suites_mean_counts_every_member_once_and_its_error_is_that_of_independent_members(
    tmp_path: Path,
    make_record,  # type: ignore[no-untyped-def]
) -> None:
    members = {"deepglobe": 0.3, "isic2018": 0.4, "chestxray": 0.7, "fss1000": 0.8}
    (line,) = suite_lines("cross-domain", load_results(suite(tmp_path, make_record, members)))
    assert line.mean is not None
    each: list[Interval] = list(line.members.values())
    assert line.mean.value == pytest.approx(sum(i.value for i in each) / 4)
    assert line.mean.error == pytest.approx(math.sqrt(sum(i.error**2 for i in each)) / 4)
    assert line.mean.high - line.mean.value == pytest.approx(1.959964 * line.mean.error, rel=1e-5)


def test_a_missing_member_leaves_no_mean_and_an_unknown_suite_is_refused(
    tmp_path: Path,
    make_record,  # type: ignore[no-untyped-def]
) -> None:
    root = suite(tmp_path, make_record, {"deepglobe": 0.3, "isic2018": 0.4})
    (line,) = json.loads(fssbench("suite", "cross-domain", root, "--json").out)["lines"]
    assert line["mean"] is None
    assert set(line["members"]) == {"deepglobe", "isic2018"}
    assert "did you mean 'cross-domain'" in fssbench("suite", "cross-domian", root, status=2).said


def test_a_suite_has_a_table_for_each_protocol(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    for name, protocol, miou in (("a", FSSBENCH, 0.3), ("b", PFENET, 0.6)):
        make_record(tmp_path / name, dataset="deepglobe", protocol=protocol, fold_iou=dict.fromkeys(range(4), miou))
    out = fssbench("suite", "cross-domain", tmp_path).out
    first, second = out.split("Suite cross-domain, protocol ")[1:]
    assert first.startswith("fssbench") and "30.0" in first and "60.0" not in first
    assert second.startswith("pfenet") and "60.0" in second


def test_the_command_prints_conditions_by_method(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    out = fssbench("robustness", records(tmp_path, make_record)).out
    (fog,) = [line for line in out.splitlines() if line.startswith("| queries fog-3")]
    assert " 20.0 | -20.0 \\[" in fog


def test_score_by_severity_is_drawn_from_the_clean_bank_on_with_the_intervals_of_the_drops(
    tmp_path: Path, make_record
) -> None:  # type: ignore[no-untyped-def]
    root = records(tmp_path / "results", make_record)
    make_record(root / "eroded-5", fold_iou={0: 0.4, 1: 0.2}, annotation="eroded-5", **FOLDS)
    (found,) = robustness(load_results(root))
    figure = by_severity([found])
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_visible()}
    assert set(panels) == {"eroded", "queries fog", "queries gaussian noise"}
    (line,) = panels["eroded"].containers
    assert line.lines[0].get_xydata() == pytest.approx(np.array([[0, 40], [3, 38], [5, 30]]))
    make_record(tmp_path / "other" / "clean", miou=0.5, episodes=60)
    make_record(tmp_path / "other" / "worse", miou=0.45, episodes=60, annotation="eroded-5", seed=0)
    (other,) = robustness(load_results(tmp_path / "other"))
    (line,) = by_severity([other]).axes[0].containers
    (bars,) = line.lines[2]
    drop = other.drops["eroded-5"]
    assert drop.low < drop.difference < drop.high
    assert bars.get_segments()[1][:, 1] == pytest.approx(100 * (other.miou + np.array([drop.low, drop.high])))
    fssbench("robustness", root, "--plot", tmp_path / "plots")
    assert {path.suffix for path in (tmp_path / "plots").glob("*-1way-1shot-severity.*")} == {".png", ".svg"}
