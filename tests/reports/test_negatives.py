"""Episodes whose queries lack the classes asked for, from the bank to the tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from fssbench.banks.bank import open_bank
from fssbench.cli import main
from fssbench.records import read_record


def fssbench(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([str(word) for word in words])
    return capsys.readouterr().out


def test_negatives_go_from_the_bank_to_a_column_of_false_positives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--folds", "0", "--shots", "1", "--episodes", "12", "--negatives")
    fssbench(capsys, "generate-episodes", "shapes5i", *words)
    bank = Path("episodes/shapes5i-fssbench-negatives-1way-1shot.h5")
    fssbench(capsys, "verify", bank)
    with open_bank(bank) as opened:
        episodes = opened.episodes(0, 1)
        lacks = [
            class_id not in opened.layers(query).areas
            for query, (class_id,) in zip(episodes.query.tolist(), episodes.classes.tolist(), strict=True)
        ]
    assert 0 < sum(lacks) < 12
    fssbench(capsys, "run", "toy_methods:ToyPixels", "--weights", "random", "--bank", bank, "--out", "results")
    (folder,) = Path("results").glob("*/*")
    record = read_record(folder)
    rows = record.episodes[np.array(lacks)]
    rate = rows["fp"].sum() / (rows["fp"] + rows["tn"]).sum()
    assert record.run.summary["folds"]["0"]["vanished"] == sum(lacks)
    assert record.run.summary["false_positive_rate"] == pytest.approx(rate)
    table = fssbench(capsys, "report", "results")
    assert "protocol fssbench, with negatives" in table
    assert "Queries may lack the classes asked for" in table
    head, line = ([c.strip() for c in t.split("|")] for t in table.splitlines() if t.startswith(("| Method", "| Toy")))
    assert line[next(i for i, name in enumerate(head) if "FPR" in name)] == f"{100 * rate:.1f}"
    assert json.loads(fssbench(capsys, "report", "results", "--format", "json"))["tables"][0]["rows"][0][
        "false_positive_rate"
    ] == pytest.approx(rate)
    (row,) = csv.DictReader(io.StringIO(fssbench(capsys, "report", "results", "--format", "csv")))
    assert float(row["false_positive_rate"]) == pytest.approx(rate)
    fssbench(capsys, "audit", "results")  # the rate too is what the counts give


def test_an_authors_random_stream_is_not_given_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate-episodes", "shapes5i", "--protocol", "hsnet", "--negatives", "--out", str(tmp_path / "a.h5")])
    assert "knows no negatives" in " ".join(capsys.readouterr().err.split())
