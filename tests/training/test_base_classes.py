"""What a fold leaves for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import photo, save

from fssbench.datasets.own.dataset import Folder
from fssbench.errors import DataError
from fssbench.training.base_classes import TrainingData, training_data
from fssbench.training.recipe import Optimiser, Stage

SHOWN = (("a",), ("a", "b"), ("b",), ("b", "c"))  # image n shows these of n mod 4; in every eighth they are small
NUMBER = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images of three classes, of which c is held out by fold 0."""
    root = tmp_path_factory.mktemp("base")
    for number in range(80):
        labels, side = np.zeros((24, 32), np.uint8), 4 if number % 8 == 0 else 10
        for place, name in enumerate(SHOWN[number % 4]):
            labels[2 : 2 + side, 2 + 14 * place : 2 + 14 * place + side] = NUMBER[name]
        labels[-1 - number // 8] = 255
        save(root / "masks" / f"{number:02}.png", labels)
        photo(root / "images" / f"{number:02}.png")
    (root / "dataset.toml").write_text(
        'images = "images"\nmasks = "masks"\nformat = "label-map"\nmin_area = 10\n'
        "[classes]\na = 1\nb = 2\nc = 3\n[folds]\n0 = ['c']\n1 = ['a', 'b']\n"
    )
    return root


def trained_on(root: Path, hold_back: bool = False, **stage: Any) -> TrainingData:
    return training_data(Folder(root), 0, (1, 2), Stage(Optimiser("SGD", 0.1), **stage), hold_back=hold_back)


def numbers(data: TrainingData) -> list[int]:
    return [int(name) for name in data.ids]


def test_images_are_left_out_as_the_recipe_says(root: Path) -> None:
    assert numbers(trained_on(root)) == list(range(80))
    assert numbers(trained_on(root, novel_images="dropped")) == [n for n in range(80) if n % 4 != 3]
    assert numbers(trained_on(root, one_class=True)) == [n for n in range(80) if n % 4 in (0, 2)]


@pytest.mark.parametrize(("least", "small"), [(None, True), (16, True), (17, False), (100, False), (101, None)])
def test_a_class_trains_on_the_images_that_show_enough_of_it(root: Path, least: int | None, small: bool | None) -> None:
    """Large objects have 100 px, small ones 16; the data set asks for 10, a recipe for what it likes."""
    if small is None:
        with pytest.raises(DataError, match="expected classes with at least 2 training images, found none"):
            trained_on(root, min_area=least)
        return
    pairs = {(n, c) for n in range(80) for c in (1, 2) if "cab"[c] in SHOWN[n % 4] and (small or n % 8)}
    data = trained_on(root, min_area=least)
    assert set(data.pool.pairs) == pairs
    assert {c: set(images) for c, images in data.pool.support.items()} == {
        c: {n for n, other in pairs if other == c} for c in (1, 2)
    }


def test_every_tenth_image_is_held_back_of_those_that_are_left(root: Path) -> None:
    data = trained_on(root, hold_back=True, novel_images="dropped")
    left = [n for n in range(80) if n % 4 != 3]
    assert [int(name) for name in data.validation.image_ids()] == left[9::10]
    assert numbers(data) == [n for n in left if n not in left[9::10]]
    assert data.validation.fold_classes(0) == (1, 2)
