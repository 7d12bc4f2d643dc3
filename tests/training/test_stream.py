"""Episodes of a training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fssbench.datasets.own.dataset import Folder
from fssbench.errors import DataError
from fssbench.training.base_classes import training_data
from fssbench.training.recipe import Optimiser, Stage
from fssbench.training.stream import EpisodeStream

STAGE = Stage(Optimiser("SGD", 0.1), min_area=1, shots=2, queries=2, batch=8)


@pytest.mark.parametrize("draw", ["class", "image", "pair", "balanced"])
def test_copies_of_a_picture_never_meet_in_a_training_episode(draw: str, own_images: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own_images, tmp_path / "own"))
    for name in ("00", "04", "08"):  # three of class a
        for folder in ("images", "masks"):
            shutil.copy(root / folder / f"{name}.png", root / folder / f"{name} copy.png")
    stage = Stage(STAGE.optimiser, min_area=1, shots=2, queries=2, batch=8, draw=draw)  # type: ignore[arg-type]
    data = training_data(Folder(root), 1, (1, 2), stage)
    copied = {data.ids[i] for i in data.pool.same}
    assert len(copied) >= 4 and copied <= {f"{n}{c}" for n in ("00", "04", "08") for c in ("", " copy")}
    episodes = EpisodeStream(data.pool, stage, 1, 5)
    met = set()
    for number in range(400):
        drawn = episodes.episode(number)
        shown = [data.ids[i] for i in (drawn.query, *drawn.support.ravel())]
        assert len({name.removesuffix(" copy") for name in shown}) == len(shown)
        met.update(shown)
    assert copied <= met


def test_a_class_of_copies_has_too_few_pictures_to_train_on(own_images: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own_images, tmp_path / "own"))
    for number in range(4, 48, 4):
        for folder in ("images", "masks"):
            shutil.copy(root / folder / "00.png", root / folder / f"{number:02}.png")
    with pytest.raises(DataError, match="expected classes with at least 4 training images, found none"):
        training_data(Folder(root), 1, (1,), STAGE)
    data = training_data(Folder(root), 1, (1, 2), STAGE)
    assert data.pool.classes == (2,) and np.ptp([class_id for _, class_id in data.pool.pairs]) == 0
