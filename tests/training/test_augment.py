"""Augmentation changes a picture and its labels alike, and keeps what a recipe says it keeps."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from fssbench.method import Preprocess
from fssbench.training.augment import changed
from fssbench.training.recipe import Augmentation


def corner() -> tuple[Image.Image, np.ndarray]:
    """100 x 100 px (80 x 80 by 1.25) with an object of 20 x 20 in a corner, which is white where all else is black."""
    labels = np.zeros((100, 100), np.uint8)
    labels[:20, :20] = 1
    return Image.fromarray(np.stack([labels * 255] * 3, -1)), labels


def test_a_window_holds_the_share_of_the_object_that_is_asked_for_and_pixels_go_with_labels() -> None:
    image, labels = corner()
    kept = []
    for seed in range(20):
        how, change = Preprocess((80, 80)), Augmentation(crop=True, keep_object=0.5, scale=(1.25, 1.25))
        pixels, (label,) = changed(image, [labels], how, change, np.random.default_rng(seed))
        assert torch.equal(pixels[0] == 255, label == 1)
        kept.append(int((label == 1).sum()))
    assert min(kept) >= 200
    assert min(kept) < 400, "a window may cut the object"


def test_a_picture_too_narrow_for_any_window_gives_its_middle_square() -> None:
    stripes = np.repeat(np.arange(200, dtype=np.uint8)[None], 10, axis=0)  # 10 x 200: column n is n
    image = Image.fromarray(np.stack([stripes] * 3, -1))
    change = Augmentation(area=(0.9, 1.0))
    _, (label,) = changed(image, [stripes], Preprocess((10, 10)), change, np.random.default_rng(0))
    assert torch.equal(label[0], torch.arange(95, 105, dtype=torch.uint8))


def test_a_squashed_input_is_scaled_by_its_own_sides_and_any_other_by_the_pictures() -> None:
    labels = np.repeat(np.arange(100, dtype=np.uint8)[:, None], 100, axis=1)  # row n is n
    image = Image.fromarray(np.stack([labels] * 3, -1))
    change = Augmentation(crop=True, scale=(1.0, 1.0))
    _, (squashed,) = changed(image, [labels], Preprocess((50, 200)), change, np.random.default_rng(0))
    assert squashed.shape == (50, 200)
    assert squashed[0, 0] < 2 and squashed[-1, -1] > 97, "the whole picture, at half its height and twice its width"
    _, (padded,) = changed(image, [labels], Preprocess((50, 200), fit="pad"), change, np.random.default_rng(0))
    assert ((padded == 255).sum(1) == 100).all(), "100 columns of picture, none squeezed"
    assert padded[-1, 100] - padded[0, 100] == 49
