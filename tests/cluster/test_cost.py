"""The cost model: hours by hand, and parts from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fssbench.cluster.cost import Job, cost_lines, cost_of, estimate
from fssbench.training.sweep import Sweep, tasks

CHAINS = [
    Job("train a", 30.0),
    Job("train b", 10.0),
    Job("run a", 5.0, after=("train a",)),
    Job("run b", 5.0, after=("train b",)),
]


@pytest.mark.parametrize(
    ("devices", "seconds", "busy", "words"),
    [(1, 50, 1.0, "the work itself, most of it train a"), (2, 35, 50 / 70, "the longest chain: run a")],
)
def test_jobs_wait_for_what_they_are_built_on(devices: int, seconds: float, busy: float, words: str) -> None:
    found = estimate(CHAINS, devices)
    assert (found.seconds, found.bottleneck) == (seconds, words)
    assert found.busy == pytest.approx(busy)


def test_reads_and_images_encoded_again_are_told_where_they_count() -> None:
    even = [Job(f"{i}", 10.0, encode=4.0, shared="fold 0") for i in range(4)]
    assert estimate(even, 2).bottleneck == "images encoded again by tasks apart, 30 % of the time"  # 3 of 4 x 4 s of 40
    heavy = [Job(f"{i}", 10.0, reads=3e9) for i in range(4)]
    assert estimate(heavy, 2).bottleneck == "bank reads, 600 MB/s"


def test_parts_come_from_records_and_from_the_steps_of_trainings(run, tmp_path: Path) -> None:
    (outcome,) = run("Toy", out=tmp_path / "results")
    path = outcome.folder / "run.json"
    made = json.loads(path.read_text())
    made["seconds"] = {"encode": 8.0, "head": 32.0}  # of 40 episodes
    path.write_text(json.dumps(made))
    sweep = Sweep.model_validate({
        "methods": ["toy_methods:Toy", "toy_methods:ToyMaps"], "backbone": "toy", "out": tmp_path / "results",
        "checkpoints": tmp_path, "shots": [1], "untrained": False,
        "data": [{"dataset": "toy", "folds": [0, 1], "bank": tmp_path / "none.h5", "episodes": 100}],
    })  # fmt: skip
    _steps(tmp_path / "toy-lite-seed0" / "toy_methods-Toy-toy-toy-fold0", [0.0, 2.0, 4.0, 500.0, 502.0])
    cost = cost_of(sweep, tasks(sweep))
    assert cost is not None
    runs = [job for job in cost.jobs if job.shared]
    assert [(job.seconds, job.encode, len(job.after)) for job in runs] == [(100.0, 20.0, 2)] * 4
    assert [job.seconds for job in cost.jobs if not job.shared] == [10.0] * 4  # five steps of 2 s, but for the pause
    assert cost.measured == 4  # of ToyMaps nothing is known: it takes what the median method does
    lines = cost_lines(sweep, tasks(sweep), (1, 2))
    assert lines[0].endswith("; 4 of 8 tasks by the median method")
    assert lines[2].split()[:4] == ["1", "0.12", "0.12", "100%"]  # 440 s
    free = {"methods": ("toy_methods:Toy",), "training_free": ("toy_methods:ToyMaps",)}
    some = sweep.model_copy(update=free)
    cost = cost_of(some, tasks(some))
    assert cost is not None
    assert [(job.name.split()[1], job.seconds) for job in cost.jobs if not job.after] == [
        ("toy_methods:ToyMaps", 100.0), ("toy_methods:ToyMaps", 100.0),
        ("toy_methods:Toy", 10.0), ("toy_methods:Toy", 10.0),
    ]  # fmt: skip


def _steps(folder: Path, times: list[float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "events" / "train")) as events:
        for step, moment in enumerate(times):
            events.add_scalar("loss", 1.0, step, walltime=moment)
    (folder / "last.safetensors").touch()
