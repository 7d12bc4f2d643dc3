"""`--weights auto` and `--weights DIR`: each fold's own checkpoint, and of no other fold."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_fold_without_a_training_is_told_what_to_do(own_images: Path, tmp_path: Path) -> None:
    trained(own_images, tmp_path, 0)
    with pytest.raises(CheckpointError, match=r"expected one training of .* for fold 1 .* found none"):
        build_method(MethodSpec(NAME, weights=str(tmp_path)), 1)
