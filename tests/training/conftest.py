"""A data set of four classes in two folds, small enough to train on in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 40 x 40 px; each shows one class as a coloured square, with a strip of void of varying height."""
    root = tmp_path_factory.mktemp("own")
    for name in ("images", "masks"):
        (root / name).mkdir()
    draw = np.random.default_rng(0)
    for number in range(48):
        class_id = 1 + number % 4
        pixels = draw.integers(0, 120, (40, 40, 3)).astype(np.uint8)
        labels = np.zeros((40, 40), np.uint8)
        top, left = draw.integers(2, 18, 2)
        pixels[top : top + 16, left : left + 16, class_id % 3] += 120
        labels[top : top + 16, left : left + 16] = class_id
        labels[38 - number % 12 :] = 255
        Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
        Image.fromarray(labels).save(root / "masks" / f"{number:02}.png")
    (root / "dataset.toml").write_text(
        'images = "images"\nmasks = "masks"\nformat = "label-map"\nmin_area = 20\n'
        "[classes]\na = 1\nb = 2\nc = 3\nd = 4\n[folds]\n0 = ['a', 'b']\n1 = ['c', 'd']\n"
    )
    return root
