"""`fssbench audit --bank`: rows against the episodes and the pixels that the bank holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from command_line import fssbench
from synthetic_records import shifted_record
from toy_data import make_bank

from fssbench.audit.bank import find_banks
from fssbench.audit.judge import Audit, audit
from fssbench.errors import BankError

Change = Callable[[pd.DataFrame], None]


@pytest.fixture(params=[1, 2], ids=["1-way", "2-way"])
def bank(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return make_bank(tmp_path / "bank.h5", episodes=4, shots=2, ways=request.param, repeats=2)


@pytest.fixture
def record(bank: Path, tmp_path: Path) -> Path:
    return shifted_record(bank, tmp_path / "results")


def change_rows(record: Path, change: Change) -> None:
    rows = pd.read_csv(record / "episodes.csv.gz")
    change(rows)
    rows.to_csv(record / "episodes.csv.gz", index=False)


def judge(record: Path, bank: Path) -> Audit:
    return audit(record.parent, find_banks([bank]))


def test_a_run_on_the_bank_has_no_finding(record: Path, bank: Path) -> None:
    assert judge(record, bank).findings == ()
    assert judge(record, bank).unjudged == ()


def test_fewer_shots_than_the_bank_holds_are_its_first_supports(bank: Path, tmp_path: Path) -> None:
    record = shifted_record(bank, tmp_path / "results", shot=1)
    assert judge(record, bank).findings == ()


def test_a_query_that_the_bank_does_not_ask_is_found(record: Path, bank: Path) -> None:
    def rename(rows: pd.DataFrame) -> None:
        rows.loc[rows["query"] == rows.loc[0, "query"], "query"] = "c9-9"

    change_rows(record, rename)
    assert {finding.field for finding in judge(record, bank).findings} == {"query"}


def test_kinder_supports_are_found(record: Path, bank: Path) -> None:
    def swap(rows: pd.DataFrame) -> None:
        row = rows.index[rows["way"] == 1][0]
        first, second = str(rows.loc[row, "supports"]).split("|")
        rows.loc[row, "supports"] = f"{second}|{first}"

    change_rows(record, swap)
    (found,) = judge(record, bank).findings
    assert (found.file, found.field) == ("shifted/episodes.csv.gz", "supports")


def test_a_smaller_object_than_the_bank_shows_is_found(record: Path, bank: Path) -> None:
    """A pixel of the object that is counted as background everywhere: consistent in itself, and wrong."""

    def shrink(rows: pd.DataFrame) -> None:
        query = rows.loc[0, "query"]
        mine = rows[(rows["query"] == query) & (rows["way"] > 0) & (rows["tp"] > 0)].groupby("class_id").groups
        index = next(iter(mine.values()))
        rows.loc[index, "tp"] -= 1
        rows.loc[index, "tn"] += 1
        background = rows.index[(rows["query"] == query) & (rows["way"] == 0)]
        rows.loc[background, "tp"] += 1
        rows.loc[background, "tn"] -= 1

    change_rows(record, shrink)
    fields = {finding.field for finding in judge(record, bank).findings if finding.file.endswith("csv.gz")}
    assert fields == {"tp + fn"}


def test_pixels_that_the_image_does_not_have_are_found(record: Path, bank: Path) -> None:
    def grow(rows: pd.DataFrame) -> None:
        query = rows["query"] == rows.loc[0, "query"]
        rows.loc[query & (rows["way"] > 0), "tn"] += 100
        rows.loc[query & (rows["way"] == 0), "tp"] += 100

    change_rows(record, grow)
    assert "the six counts" in {finding.field for finding in judge(record, bank).findings}


def test_a_record_of_a_bank_that_is_not_at_hand_is_found(record: Path, tmp_path: Path) -> None:
    other = make_bank(tmp_path / "other.h5", episodes=6)
    (found,) = audit(record.parent, find_banks([other]), only_these=True).findings
    assert (found.file, found.field) == ("shifted/run.json", "bank.fingerprint")
    assert audit(record.parent).unjudged == (json.loads((record / "run.json").read_text())["bank"]["fingerprint"],)


def test_banks_are_looked_for_in_folders_and_absent_ones_named(bank: Path, record: Path) -> None:
    assert len(find_banks([bank.parent])) == 1
    with pytest.raises(BankError, match=r"nowhere\.h5"):
        find_banks([bank.parent / "nowhere.h5"])


def test_the_command_takes_banks(record: Path, bank: Path) -> None:
    assert fssbench("audit", record.parent, "--bank", bank).out == ""


def test_without_the_option_the_folder_episodes_is_asked(
    record: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "episodes").mkdir(parents=True)
    bank.rename(tmp_path / "here" / "episodes" / "bank.h5")
    monkeypatch.chdir(tmp_path / "here")
    assert "not at hand" not in fssbench("audit", record.parent).err
