"""Episodes whose queries lack the classes asked for, from the bank to the tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench
from toy_data import few_shapes

from fssbench.banks.bank import open_bank
from fssbench.records import read_record


def test_negatives_go_from_the_bank_to_a_column_of_false_positives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--folds", "0", "--shots", "1", "--episodes", "12", "--negatives", "--workers", "1")
    with few_shapes():
        fssbench("generate-episodes", "shapes5i", *words)
    bank = Path("episodes/shapes5i-fssbench-negatives-1way-1shot.h5")
    fssbench("verify", bank)
    with open_bank(bank) as opened:
        episodes = opened.episodes(0, 1)
        lacks = [
            class_id not in opened.masks.layers(query).areas
            for query, (class_id,) in zip(episodes.query.tolist(), episodes.classes.tolist(), strict=True)
        ]
    assert 0 < sum(lacks) < 12
    fssbench("run", "toy_methods:ToyPixels", "--weights", "random", "--bank", bank, "--out", "results")
    (folder,) = Path("results").glob("*/*")
    record = read_record(folder)
    rows = record.episodes[np.array(lacks)]
    rate = rows["fp"].sum() / (rows["fp"] + rows["tn"]).sum()
    assert record.run.summary["folds"]["0"]["vanished"] == sum(lacks)
    assert record.run.summary["false_positive_rate"] == pytest.approx(rate)
    table = fssbench("report", "results").out
    assert "protocol fssbench, with negatives" in table
    assert "Queries may lack the classes asked for" in table
    head, line = ([c.strip() for c in t.split("|")] for t in table.splitlines() if t.startswith(("| Method", "| Toy")))
    assert line[next(i for i, name in enumerate(head) if "FPR" in name)] == f"{100 * rate:.1f}"
    (found,) = json.loads(fssbench("report", "results", "--json").out)["tables"][0]["rows"]
    assert found["false_positive_rate"] == pytest.approx(rate)
    (row,) = csv.DictReader(fssbench("report", "results", "--format", "csv").out.splitlines())
    assert float(row["false_positive_rate"]) == pytest.approx(rate)
    fssbench("audit", "results")  # the rate too is what the counts give


def test_an_authors_random_stream_is_not_given_negatives(tmp_path: Path) -> None:
    done = fssbench(
        "generate-episodes", "shapes5i", "--protocol", "hsnet", "--negatives", "--out", tmp_path / "a.h5", status=2
    )
    assert "knows no negatives" in done.said
