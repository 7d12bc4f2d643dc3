"""Records: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from full_disk import room_for
from pytest import MonkeyPatch
from synthetic_records import synthetic

from fssbench import records
from fssbench.errors import RecordError
from fssbench.records import (
    COLUMNS,
    Run,
    find_records,
    read_record,
    read_run,
    write_record,
)
from fssbench.scoring.metrics import summarise


def frame() -> pd.DataFrame:
    return pd.DataFrame([[0, 0, 0, 0, 1, 1, "007", "010 0011", 8, 1, 2, 89, 0, 0]], columns=COLUMNS)


def run(**changes: Any) -> Run:
    """A run of one fold and one class, and no more said of its protocol than it has to be."""
    made, _ = synthetic("r", "panet", folds=[0], bank_folds=[0], classes_per_fold=1, episodes=1, fold_iou={0: 8 / 11})
    bank = made.bank.model_copy(update={"protocol": {}, "class_names": {1: "Ä"}})
    return made.model_copy(update={"bank": bank, "summary": summarise(frame(), {0: [1]}), **changes})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "r", run(), frame())
    record = read_record(tmp_path / "r")
    assert record.run == run()
    pd.testing.assert_frame_equal(record.episodes, frame(), check_dtype=False)
    assert record.episodes["query"].tolist() == ["007"]  # an id, not a number


def test_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_record(tmp_path / name, run(), frame())
    for file in ("run.json", "episodes.csv.gz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("room", [1000, 3000])
def test_a_full_disk_leaves_an_older_record_as_it_was(tmp_path: Path, room: int) -> None:
    """The process may write `room` bytes a file: too few for run.json, or for episodes.csv.gz."""
    write_record(tmp_path / "r", run(), frame())
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    assert 1000 < len(before["run.json"]) < 3000
    rows = pd.concat([frame()] * 2000)
    rows = rows.assign(tn=np.random.default_rng(0).integers(1 << 40, size=len(rows)))
    with room_for(room), pytest.raises(RecordError, match="could not be written"):
        write_record(tmp_path / "r", run(), rows)
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before


def test_records_are_found_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b", "a/deep", "c"):
        write_record(tmp_path / name, run(), frame())
    assert [folder.relative_to(tmp_path).as_posix() for folder in find_records(tmp_path)] == ["a/deep", "b", "c"]
    assert find_records(tmp_path / "b") == [tmp_path / "b"]


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record at"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected JSON"), ('{"id": 3}', "run.json: id"), ("[]", "run.json")],
)
def test_a_broken_run_is_named_with_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_run(tmp_path)


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, run(), frame())
    path = tmp_path / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"backbone"', '"backbones"'), encoding="utf-8")
    with pytest.raises(RecordError, match=r"run\.json: backbone"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("fold,run\n0,0\n", "expected the columns"), ("", "could not be read"), ('"', "could not be read")],
)
def test_broken_episodes_are_named(text: str, message: str, tmp_path: Path) -> None:
    write_record(tmp_path, run(), frame())
    (tmp_path / "episodes.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(RecordError, match=message):
        read_record(tmp_path)


@pytest.mark.parametrize("value", ["-1", "1.5", "many", ""])
def test_counts_that_are_no_counts_are_named(value: str, tmp_path: Path) -> None:
    write_record(tmp_path, run(), frame())
    path = tmp_path / "episodes.csv.gz"
    rows = gzip.decompress(path.read_bytes()).replace(b",8,1,2,", f",{value},1,2,".encode())
    path.write_bytes(gzip.compress(rows))
    with pytest.raises(RecordError, match=r"episodes\.csv\.gz: tp"):
        read_record(tmp_path)


def test_an_image_named_na_stays_a_name(tmp_path: Path) -> None:
    write_record(tmp_path, run(), frame().assign(query="NA", supports="null nan"))
    assert read_record(tmp_path).episodes[["query", "supports"]].iloc[0].tolist() == ["NA", "null nan"]


def test_the_summary_is_checked_when_it_is_asked_for(tmp_path: Path) -> None:
    assert run().scores(tmp_path).miou == pytest.approx(8 / 11)
    with pytest.raises(RecordError, match=r"run\.json: summary\.folds"):
        run(summary={**run().summary, "folds": 3}).scores(tmp_path)


def test_a_record_of_an_older_release_is_refused_by_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1, "anything": 0}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"expected a record of schema 3, found one of schema 1.*score it again"):
        read_run(tmp_path)


def test_a_record_of_a_later_release_is_not_read_as_if_it_were_known(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 99, "anything": 0}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"expected a record of schema 3, found one of schema 99.*Update fssbench"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/x", "a/../b", "a//b", "a/", "a b", "", "x" * 300, ".hidden", "a\nb"]
)
@pytest.mark.parametrize("field", ["dataset", "annotation"])
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path, field: str, name: str) -> None:
    made = run()
    changed = {"bank": made.bank.model_copy(update={field: name})} if field == "dataset" else {field: name}
    write_record(tmp_path, made.model_copy(update=changed), frame())
    with pytest.raises(RecordError, match=f"{field}: expected letters, digits"):
        read_run(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, number: str) -> None:
    write_record(tmp_path, run(seconds={"head": 123.5}), frame())
    path = tmp_path / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace("123.5", number), encoding="utf-8")
    with pytest.raises(RecordError, match=r"seconds\.head"):
        read_run(tmp_path)


def test_a_number_of_supports_below_none_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, run().model_copy(update={"vanished_supports": -1}), frame())
    with pytest.raises(RecordError, match=r"run\.json: vanished_supports"):
        read_run(tmp_path)


def test_rows_that_unpack_to_more_than_any_record_holds_are_refused(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    write_record(tmp_path, run(), frame())
    (tmp_path / "episodes.csv.gz").write_bytes(gzip.compress(b"0" * 5_000_000))  # 5 kB on disk
    monkeypatch.setattr(records, "LARGEST", 1_000_000)
    with pytest.raises(RecordError, match="unpacked, found more"):
        read_record(tmp_path)
