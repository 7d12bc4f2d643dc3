"""`fssbench train`: killed and resumed, on several processes, what it records, and what it refuses."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import environment, fresh, fssbench, line
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_training import Learner

from fssbench.checkpoints import open_checkpoint, read_card, restore
from fssbench.datasets.registry import open_dataset
from fssbench.errors import MethodError, UsageError
from fssbench.method import EpisodeBatch
from fssbench.regime import exposure, list_digest
from fssbench.training.loop import Run, Told, TrainRequest
from fssbench.training.request import plan
from fssbench.training.state import read_position

NAME = "toy_training:Learner"
FOLDER = "toy_training-Learner-toy-folder-fold0"
BAIT = 10  # kills


def request(root: Path, out: Path, **changes: object) -> TrainRequest:
    values = {"validate": 2, "validation_episodes": 6, "save_every": 4, "start": "random", "workers": 1}
    return TrainRequest(NAME, "folder", 0, out, root=root, **(values | changes))  # type: ignore[arg-type]


def command(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", NAME, "--dataset", "folder", "--root", str(root), "--out", str(out), "--weights", "random"),
        *("--validate", "0", "--device", "cpu", *more),
    ]


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_with_the_weights_of_one_that_was_not(own_images: Path, tmp_path: Path) -> None:
    """The kills hit wherever a run is: a child trains, and its parent kills it some steps after the last state."""
    whole = Run(request(own_images, tmp_path / "whole", steps=60, validate=0, save_every=2)).train()
    out = tmp_path / "killed"
    child = (
        "import sys, os, signal; sys.argv = ['fssbench', *sys.argv[1:]]\n"
        "from fssbench.training import loop, updates\n"
        "stop, real, done = int(os.environ['STOP']), updates.Updater.step, [0]\n"
        "def step(self, parts, number):\n"
        "    done[0] += 1\n"
        "    if done[0] > stop: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, parts, number)\n"
        "updates.Updater.step = step\n"
        "from pathlib import Path\n"
        "loop.Run(loop.TrainRequest('toy_training:Learner', 'folder', 0, Path(sys.argv[2]), root=Path(sys.argv[1]),\n"
        "    steps=60, validate=0, save_every=2, start='random', validation_episodes=6, workers=2)).train()\n"
    )
    kills = 0
    for attempt in range(40):
        ran = subprocess.run(
            [sys.executable, "-c", child, str(own_images), str(out)],
            env=environment(STOP=str(3 + attempt % 3)), check=False,
        )  # fmt: skip
        if ran.returncode == 0:
            break
        assert ran.returncode == -signal.SIGKILL
        kills += 1
    assert kills >= BAIT
    expected, found = (load_file(folder / "last.safetensors") for folder in (whole.folder, out / FOLDER))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(out / FOLDER) == losses(whole.folder)


@pytest.mark.slow
def test_a_state_that_is_being_written_when_the_kill_comes_leaves_the_one_before(
    own_images: Path, tmp_path: Path
) -> None:
    """Killed by the clock, not by the step: in the middle of anything."""
    whole = Run(request(own_images, tmp_path / "whole", steps=40, validate=0, save_every=1)).train()
    out = tmp_path / "killed"
    train = line(*command(own_images, out, "--steps", "40", "--save-every", "1"))
    kills = 0
    for wait in (0.5, 1.0):
        running = subprocess.Popen(train, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        state = out / FOLDER / "state.safetensors"
        limit = time.monotonic() + 60
        while not state.exists() and running.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(wait / 4)
        running.kill()
        kills += running.wait() == -signal.SIGKILL
    assert kills == 2
    fresh(train)
    expected, found = (load_file(folder / "last.safetensors") for folder in (whole.folder, out / FOLDER))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_two_processes_have_the_losses_of_one_with_the_same_batch(own_images: Path, tmp_path: Path) -> None:
    """The labels' void differs from image to image, so each process has another number of valid pixels."""
    one = Run(request(own_images, tmp_path / "one", steps=8, validate=0, settings=("dropout=0",))).train()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = command(own_images, tmp_path / "two", "--steps", "8", "--set", "dropout=0")
    both = [multiprocessing.get_context("fork").Process(target=_train_as, args=(n, port, words)) for n in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    assert losses(tmp_path / "two" / FOLDER) == pytest.approx(losses(one.folder), abs=1e-4)
    expected, found = (load_file(f / "last.safetensors") for f in (one.folder, tmp_path / "two" / FOLDER))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)


def _train_as(number: int, port: int, words: list[str]) -> None:
    """Train as process `number` of two, by the variables that torchrun sets."""
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    fssbench(*words)


def test_threads_that_load_change_no_number(own_images: Path, tmp_path: Path) -> None:
    runs = [Run(request(own_images, tmp_path / str(n), steps=6, validate=0, workers=n)).train() for n in (1, 3)]
    assert losses(runs[0].folder) == losses(runs[1].folder)


def test_parts_of_a_batch_add_up_to_nearly_the_whole(own_images: Path, tmp_path: Path) -> None:
    """Nearly: a part's loss is a mean over its own valid pixels."""
    made = [
        Run(request(own_images, tmp_path / str(n), steps=5, validate=0, accumulate=n, settings=("dropout=0",))).train()
        for n in (1, 4)
    ]
    assert losses(made[1].folder) == pytest.approx(losses(made[0].folder), rel=0.05)


@pytest.mark.parametrize(("validate", "stop", "saved"), [(0, 7, 4), (0, 8, 4), (0, 9, 8), (2, 7, 6)])
def test_a_run_that_is_cut_off_goes_on_from_its_last_fourth_step_or_validation(
    own_images: Path, tmp_path: Path, validate: int, stop: int, saved: int
) -> None:
    """The step that is being told of when the run ends is not saved yet."""

    def cut(step: int, *rest: object) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(request(own_images, tmp_path, steps=12, validate=validate), Told(step=cut)).train()
    assert read_position(tmp_path / FOLDER / "state.safetensors").step == saved


def test_events_show_every_step_once_after_a_run_was_cut_off(own_images: Path, tmp_path: Path) -> None:
    def cut(step: int, *rest: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    asked = request(own_images, tmp_path, steps=7, save_every=2, validate=1)
    with pytest.raises(KeyboardInterrupt):
        Run(asked, Told(step=cut)).train()
    time.sleep(1.1)  # names of event files count seconds
    Run(asked).train()
    found = EventAccumulator(str(tmp_path / FOLDER / "events" / "train")).Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(losses(tmp_path / FOLDER))
    assert [event.step for event in found.Scalars("validation mIoU")] == [7]


def test_images_are_held_back_only_where_something_is_chosen_on_them(own_images: Path, tmp_path: Path) -> None:
    counts = {
        name: read_card(
            Run(request(own_images, tmp_path / name, steps=1, **how)).train().folder / "last.safetensors"
        ).regime.images
        for name, how in {"chosen": {"validate": 1}, "last": {"validate": 0}}.items()
    }
    assert counts["last"] > counts["chosen"] > 0.85 * counts["last"]


def test_a_card_says_what_the_checkpoint_was_trained_and_selected_on(own_images: Path, tmp_path: Path) -> None:
    trained = Run(request(own_images, tmp_path, steps=6)).train()
    best, last = (read_card(trained.folder / f"{name}.safetensors") for name in ("best", "last"))
    regime = best.regime
    assert (regime.source, regime.fold, regime.classes) == ("fssbench", 0, {3: "c", 4: "d"})
    assert (regime.selected_on, last.regime.selected_on) == ("base", "nothing")
    assert (regime.batch, regime.shots, regime.recipe, regime.seed) == (4, 1, "paper", 0)
    assert last.regime.steps == 6
    whole = open_dataset("folder", own_images)
    assert regime.images is not None and regime.images < len(whole.image_ids())
    assert regime.images_sha256 != list_digest(whole.image_ids())
    assert exposure(regime, "folder", {1: "a", 2: "b"}, 0).state == "clean"
    assert exposure(regime, "folder", {3: "c", 4: "d"}, 1).classes == ("c", "d")
    method = restore(open_checkpoint(trained.folder / "best.safetensors"))
    assert not method.training


def test_selecting_on_the_tested_classes_is_said_on_the_card(own_images: Path, tmp_path: Path) -> None:
    trained = Run(request(own_images, tmp_path, steps=4, select_on_test=True)).train()
    assert read_card(trained.folder / "best.safetensors").regime.selected_on == "novel"


def test_a_checkpoint_is_chosen_in_the_precision_of_the_training(
    own_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, segment = set(), Learner.segment

    def watched(self: Learner, episodes: EpisodeBatch) -> torch.Tensor:
        seen.add((self.training, torch.is_autocast_enabled("cpu")))
        return segment(self, episodes)

    monkeypatch.setattr(Learner, "segment", watched)
    for precision, low in (("fp32", False), ("bf16", True)):
        Run(request(own_images, tmp_path / precision, steps=2, validate=1, precision=precision)).train()
        assert seen == {(True, low), (False, low)}
        seen.clear()


def test_a_finished_training_is_not_done_again_and_another_one_not_written_over(
    own_images: Path, tmp_path: Path
) -> None:
    first = Run(request(own_images, tmp_path, steps=4, validate=0)).train()
    before = (first.folder / "last.safetensors").read_bytes()
    assert Run(request(own_images, tmp_path, steps=4, validate=0)).train().state == "already there"
    with pytest.raises(UsageError, match="holds another training"):
        Run(request(own_images, tmp_path, steps=4, validate=0, seed=1)).train()
    assert (first.folder / "last.safetensors").read_bytes() == before


def test_a_loss_that_is_not_a_number_stops_with_step_and_episode_and_keeps_the_last_state(
    own_images: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    breaking = replace(request(own_images, tmp_path, steps=12, validate=0, save_every=2), method="toy_training:Breaks")
    with pytest.raises(MethodError, match=r"not a number at step 6 .*queries \d\d \([cd]\)"):
        Run(breaking).train()
    (state,) = tmp_path.rglob("state.safetensors")
    assert all(value.isfinite().all() for value in load_file(state).values())


def test_an_unknown_recipe_and_a_fold_that_leaves_no_class_are_one_message(own_images: Path, tmp_path: Path) -> None:
    for option, value, words in (
        ("--recipe", "papre", "did you mean 'paper'"),
        ("--folds", "7", "expected folds 0 to 1"),
    ):
        assert words in fssbench(*command(own_images, tmp_path), option, value, status=2).said


def test_a_dry_run_says_what_would_be_trained_on_what_and_leaves_nothing(own_images: Path, tmp_path: Path) -> None:
    shown = " ".join(fssbench(*command(own_images, tmp_path / "out"), "--dry-run").out.split())
    trained = Run(request(own_images, tmp_path / "real", validate=0)).train()
    regime = read_card(trained.folder / "last.safetensors").regime
    assert f"{regime.steps} steps of {regime.batch} episodes, 2 classes, {regime.images} images" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["bam", "hdmnet"])
def test_a_base_learner_learns_as_many_classes_as_the_data_leaves(method: str, tmp_path: Path) -> None:
    asked = TrainRequest(method, "coco20i", 0, tmp_path, backbone="efficientnet_lite0", start="random")
    assert plan(asked, 60)[1].config.base_classes == 60  # type: ignore[attr-defined]
    with pytest.raises(MethodError, match="expected the 60 classes that coco20i leaves for training, found 15"):
        plan(replace(asked, settings=("base_classes=15",)), 60)
