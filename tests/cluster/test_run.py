"""`run --cluster`: the records of one machine, whatever dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_cluster

from fssbench.cluster.connect import Ask
from fssbench.cluster.run import run_on_cluster
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.job import Outcome, RunRequest
from fssbench.records import read_run

pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with toy_cluster.two_nodes(tmp_path_factory.mktemp("nodes")) as cluster:
        import ray

        ray.init(cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
        ray.shutdown()


@pytest.fixture
def on_cluster(nodes: Any, bank: Path, tmp_path: Path, listener: Any) -> Any:
    def go(*methods: str, shots: tuple[int, ...] = (1, 5), bank: Path = bank, **more: Any) -> tuple[list[Outcome], Any]:
        specs = [MethodSpec(f"toy_methods:{name}", weights="random") for name in methods]
        settings = Settings(device=torch.device("cpu"), head_batch=more.pop("head_batch", 8))
        request = RunRequest(specs, bank, settings, shots, out=tmp_path / "cluster", **more)
        return run_on_cluster(request, Ask("auto"), listener)

    return go


def equal_records(ours: list[Outcome], theirs: list[Outcome]) -> None:
    """Byte for byte, apart from what is a fact of time and place."""
    assert [o.state for o in ours] == [o.state for o in theirs] == ["finished"] * len(ours)
    for one, other in zip(ours, theirs, strict=True):
        rows = [(o.folder / "episodes.csv.gz").read_bytes() for o in (one, other)]
        assert rows[0] == rows[1]
        runs = [read_run(o.folder).model_dump() for o in (one, other)]
        for run in runs:
            del run["created"], run["seconds"], run["environment"]["host"], run["environment"]["command"]
        assert runs[0] == runs[1]


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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, toy_cluster.PLACES))}
    ended = subprocess.run([sys.executable, "-c", blocked, bank, tmp_path / "plain"], env=env, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
