"""`train` and `sweep --cluster`: the checkpoints and records of one machine, also after kills."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import PLUGINS
from safetensors.torch import load_file
from toy_cluster import equal_records, task_processes

from fssbench.cluster.connect import Ask
from fssbench.cluster.episodes import Group
from fssbench.cluster.train import sweep_on_cluster, train_on_cluster
from fssbench.cluster.trainings import Learning, _by_torchrun, arguments, processes, training_folder
from fssbench.engine.job import Outcome
from fssbench.records import find_records
from fssbench.training.loop import Run, TrainRequest
from fssbench.training.sweep import carry_out, read_sweep, tasks

pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")
NAME = "toy_training:Learner"


def request(root: Path, out: Path, **changes: Any) -> TrainRequest:
    values = {"validate": 1, "validation_episodes": 4, "save_every": 2, "start": "random", "workers": 1, "steps": 8}
    return TrainRequest(NAME, "folder", 0, out, root=root, **(values | changes))


def equal_weights(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        expected, found = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert (one / "log.csv").read_bytes() == (other / "log.csv").read_bytes()


def write_sweep(folder: Path) -> Path:
    path = folder / "sweep.toml"
    path.write_text(
        'methods = ["toy_training:Learner", "panet"]\nbackbone = "toy"\nrecipe = "paper"\nsteps = 2\nshots = [1, 2]\n'
        'out = "results"\nuntrained = false\n'
        '[[data]]\ndataset = "folder"\nfolds = [0, 1]\nbank = "bank.h5"\nepisodes = 4\n'
    )
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_a_sweep_gives_the_records_of_one_machine_and_what_fails_fails_alone(
    own_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, list[Path]] = {}
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
        monkeypatch.chdir(tmp_path / where)
        sweep = read_sweep(write_sweep(tmp_path / where))
        if where == "here":
            failed = carry_out(sweep.only([NAME]), own_images, print)
            assert failed == []
        else:
            failed, counts = sweep_on_cluster(sweep, own_images, Ask("auto", device="cpu"), print)
            assert {str(task) for task, _ in failed} == {f"train panet on folder, fold {fold}" for fold in (0, 1)}
            assert counts.done == 5  # a bank, two trainings, and a run of each fold
        assert all(task.done for task in tasks(sweep.only([NAME])))
        made[where] = [path.resolve() for path in find_records(Path("results"))]
    assert len(made["here"]) == 2
    ours, theirs = ([Outcome("", 1, path, "finished") for path in made[where]] for where in ("here", "there"))
    equal_records(theirs, ours)
    folder = next(Path("checkpoints").rglob("*fold1"))
    equal_weights(tmp_path / "here" / folder, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_a_killed_training_goes_on_from_what_came_back(own_images: Path, tmp_path: Path, monkeypatch) -> None:
    one = Run(request(own_images, tmp_path / "one", steps=150)).train()
    asked = request(own_images, tmp_path / "two", steps=150)
    kills: list[int] = []
    plain = Learning.take

    def take(self: Learning, message: Any, host: str) -> None:
        plain(self, message, host)
        if message[0] == "file" and message[1] == "state.safetensors" and len(kills) < 2:
            (victim,) = task_processes("ray::train")
            kills.append(victim.pid)
            victim.kill()

    monkeypatch.setitem(Learning.__init__.__kwdefaults__, "every", 0.0)
    monkeypatch.setattr(Learning, "take", take)
    ((learning,), counts) = train_on_cluster([asked], Ask("auto", device="cpu"), print)
    assert learning.trained is not None
    assert counts.lost == len(kills) > 0
    assert (learning.trained.best, learning.trained.best_step) == (one.best, one.best_step)
    equal_weights(one.folder, learning.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_data_and_bank_that_a_node_lacks_are_sent_to_it_once(
    own_images: Path, tmp_path: Path, bank: Path, on_cluster, run, listener, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(own_images, "data")
    shutil.copy(bank, "bank.h5")
    one = Run(request(Path("data"), tmp_path / "one")).train()
    ours = run("Toy", bank=Path("bank.h5"))
    for work in (Learning, Group):  # as from a driver whose folder no node has
        plain = work.payload
        monkeypatch.setattr(work, "payload", lambda self, plain=plain: replace(plain(self), folder=Path("/nowhere")))
    ((learning,), _) = train_on_cluster([request(Path("data"), Path("two"))], Ask("auto", device="cpu"), listener.say)
    theirs, _ = on_cluster("Toy", shots=(1,), bank=Path("bank.h5"))
    assert sum("sending it" in said for said in listener.messages) == 2
    equal_weights(one.folder, learning.folder)
    equal_records(theirs, ours)


def test_torchrun_shares_the_batch_of_a_recipe_that_asks_for_several_gpus(own_images: Path, tmp_path: Path) -> None:
    from toy_training import Learner

    paper = Learner.recipes["paper"]
    asked = request(own_images, tmp_path)
    assert paper.gpus == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(paper), "gpus", 8)
        assert [processes(asked, gpus) for gpus in (0, 1, 3, 8)] == [1, 1, 2, 4]  # what a batch of 4 can share


@pytest.mark.slow
def test_a_training_by_torchrun_ends_as_one_in_the_process(own_images: Path, tmp_path: Path) -> None:
    asked = request(own_images, tmp_path / "two", settings=("dropout=0",), validate=0)
    assert arguments(asked)[:2] == ["train", NAME]
    one = Run(request(own_images, tmp_path / "one", settings=("dropout=0",), validate=0)).train()
    posted: list[Any] = []
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PLUGINS), os.environ["PYTHONPATH"]])
    for _ in _by_torchrun(asked, 2, posted.append):
        pass
    what, trained = posted[-1]
    assert (what, trained.steps, trained.state) == ("end", one.steps, "finished")
    assert trained.folder == training_folder(asked)
    expected, found = (load_file(f / "last.safetensors") for f in (one.folder, trained.folder))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)
