"""What counts as equal, and which files are parity cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import fssbench
from repository import CASES

from fssbench.errors import DataError
from fssbench.parity import compare as comparison
from fssbench.parity.case import Arrays, Case, find_cases, load_case
from fssbench.parity.compare import Row, compare

CASE = CASES / "panet-vgg16-5shot-97-s11.npz"


def toy(**expected: object) -> Case:
    arrays: Arrays = {name: np.asarray(value) for name, value in expected.items()}
    return Case(Path("toy.npz"), {"method": "toy", "float_noise": {"noisy": 0.5}}, {}, arrays)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """What the method `toy` gives; empty at first."""
    made: Arrays = {}
    runner = SimpleNamespace(outputs=lambda case: made, TOLERANCES={"loose_*": 0.1})
    monkeypatch.setattr(comparison, "_runner", lambda case: runner)
    return made


def only(case: Case) -> Row:
    (row,) = compare(case)
    return row


def test_the_tolerance_grows_with_the_largest_expected_value_above_one(outputs: Arrays) -> None:
    outputs["logits"] = np.array([1000.05, 0.0])
    assert only(toy(logits=[1000.0, 0.0])).passed  # 1e-4 x 1000 = 0.1
    outputs["logits"] = np.array([0.10005, 0.0])
    assert only(toy(logits=[0.1, 0.0])).passed  # 1e-4 x 1
    outputs["logits"] = np.array([0.1002, 0.0])
    assert not only(toy(logits=[0.1, 0.0])).passed


def test_a_runners_own_tolerance_and_the_authors_own_noise_are_allowed(outputs: Arrays) -> None:
    outputs["loose_a"] = np.array([0.09])
    assert only(toy(loose_a=[0.0])).passed
    outputs["noisy"] = np.array([0.4])
    assert only(toy(noisy=[0.0])).passed


@pytest.mark.parametrize("found", [None, np.zeros((2, 1)), np.array([np.nan, 0.0])])
def test_a_tensor_that_is_absent_of_another_shape_or_nan_does_not_pass(
    outputs: Arrays, found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None
) -> None:
    if found is not None:
        outputs["logits"] = found
    assert not only(toy(logits=[0.0, 0.0])).passed


def test_labels_may_flip_in_one_pixel_of_a_thousand(outputs: Arrays) -> None:
    outputs["pred"] = np.zeros(1000, np.uint8)
    outputs["pred"][:1] = 1
    assert only(toy(pred=np.zeros(1000, np.uint8))).passed
    outputs["pred"][:2] = 1
    assert not only(toy(pred=np.zeros(1000, np.uint8))).passed


def test_a_case_of_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"unknown method 'pannet': did you mean 'panet'"):
        list(compare(replace(load_case(CASE), meta={"method": "pannet"})))


def test_a_case_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", meta=np.array([{"method": "panet"}], dtype=object))
    with pytest.raises(DataError, match=r"bad\.npz is not a parity case"):
        load_case(tmp_path / "bad.npz")


def test_a_truncated_case_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(CASE.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut\.npz is not a parity case"):
        load_case(tmp_path / "cut.npz")


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no parity cases"):
        find_cases(tmp_path)


def changed(folder: Path) -> Path:
    """A copy of a case whose logits are off by 0.01."""
    with np.load(CASE, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["logits"] = arrays["logits"] + 0.01
    np.savez(folder / CASE.name, **arrays)
    return folder


def test_the_command_prints_a_row_for_each_tensor_and_fails_for_one_that_deviates(tmp_path: Path) -> None:
    rows = {row["tensor"]: row for row in json.loads(fssbench("parity", changed(tmp_path), "--json", status=1).out)}
    assert set(rows) == {"prototypes", "logits_low", "logits", "query_loss", "align_loss", "loss"}
    assert [name for name, row in rows.items() if not row["passed"]] == ["logits"]
    assert rows["logits"]["deviation"] == pytest.approx(0.01, abs=1e-3)


def test_the_command_takes_one_file_and_succeeds_where_all_pass() -> None:
    assert "6 of 6 tensors pass" in fssbench("parity", CASE).out
