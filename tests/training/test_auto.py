"""`--weights auto` and `--weights DIR`: each fold's own checkpoint, and of no other fold."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import toy_training
from command_line import fssbench

from fssbench.engine.build import MethodSpec, build_method
from fssbench.errors import CheckpointError
from fssbench.training.loop import Run, TrainRequest

NAME = "toy_training:Learner"


def trained(root: Path, out: Path, fold: int) -> None:
    Run(TrainRequest(NAME, "folder", fold, out, root=root, steps=2, validate=0, start="random")).train()


def test_each_fold_finds_its_own_checkpoint(own_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for fold in (0, 1):
        trained(own_images, Path("checkpoints"), fold)
    for weights in ("auto", "checkpoints"):
        for fold, classes in ((0, {"c", "d"}), (1, {"a", "b"})):
            _, entry = build_method(MethodSpec(NAME, weights=weights), fold)
            assert entry.regime is not None
            assert set((entry.regime.classes or {}).values()) == classes


def suggested(error: BaseException) -> list[str]:
    """The words of the command to train by that a message holds."""
    found = re.search(r"`(fssbench train .*?)`", str(error))
    assert found, error
    return shlex.split(found[1])[1:]


@pytest.mark.parametrize("weights", [None, "auto"])
def test_who_lacks_a_training_is_given_the_command_that_makes_it(
    own_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(own_images, Path("checkpoints"), 0)
    spec = MethodSpec(NAME, ("dropout=0.2",), backbone="toy2", weights=weights)
    with pytest.raises(CheckpointError) as caught:
        build_method(spec, 1, "folder")
    words = suggested(caught.value)
    fssbench(*words, "--root", own_images, "--steps", 2, "--validate", 0, "--weights", "random")
    method, entry = build_method(replace(spec, weights="auto"), 1, "folder")
    assert entry.regime is not None
    assert (method.config.backbone, method.config.dropout, entry.regime.fold) == ("toy2", 0.2, 1)


def test_a_recipe_that_is_not_called_paper_is_part_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_training.Learner, "recipes", {"lite": toy_training.Learner.recipes["paper"]})
    with pytest.raises(CheckpointError) as caught:
        build_method(MethodSpec(NAME), 0, "folder")
    assert suggested(caught.value)[-2:] == ["--recipe", "lite"]


def test_a_checkpoint_is_found_whatever_folder_its_method_is_named_from(
    own_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "named_by_file.py").write_text("from toy_training import Learner as Mine\n")
    monkeypatch.chdir(tmp_path)
    Run(TrainRequest("own/named_by_file.py:Mine", "folder", 0, tmp_path / "checkpoints", root=own_images, steps=2,
                     validate=0, start="random")).train()  # fmt: skip
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["named_by_file-Mine-toy-folder-fold0"]
    monkeypatch.chdir(tmp_path / "own")
    _, entry = build_method(MethodSpec("./named_by_file.py:Mine", weights=str(tmp_path / "checkpoints")), 0)
    assert entry.kind == "checkpoint"
