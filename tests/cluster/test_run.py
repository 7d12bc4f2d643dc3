"""`run --cluster`: the records of one machine, whatever dies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import fresh
from toy_cluster import equal_records

pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")


def test_records_are_those_of_one_machine(on_cluster, run, listener, tmp_path: Path) -> None:
    names = ("Toy", "ToyOneWay", "ToyPixels")
    theirs, counts = on_cluster(*names, save_predictions=True)
    assert counts.done == 4  # two folds; ToyPixels has another input size and is a task of its own
    assert listener.done == listener.episodes == 240
    equal_records(theirs, run(*names, shots=(1, 5), save_predictions=True))
    assert sorted(path.name for path in theirs[0].folder.iterdir()) == ["episodes.csv.gz", "predictions.h5", "run.json"]
    assert [outcome.state for outcome in on_cluster(*names, save_predictions=True)[0]] == ["already there"] * 6


def test_a_method_that_fails_fails_alone(on_cluster, run) -> None:
    theirs, _ = on_cluster("ToyRaises", "Toy", shots=(1,))
    assert [outcome.state for outcome in theirs] == ["failed", "finished"]
    assert "ZeroDivisionError: a bug in the head" in theirs[0].message
    equal_records(theirs[1:], run("Toy"))


def test_without_the_option_ray_is_never_imported(bank: Path, tmp_path: Path) -> None:
    blocked = (
        "import sys; sys.modules['ray'] = None; from fssbench.cli.app import main; "
        "main(['run', 'toy_methods:Toy', '--weights', 'random', '--bank', sys.argv[1], '--out', sys.argv[2]])"
    )
    fresh([sys.executable, "-c", blocked, str(bank), str(tmp_path / "plain")])
