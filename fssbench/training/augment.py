"""Augmentation by torchvision.transforms.v2, on an image and its labels alike.

Every number is drawn from the generator that is passed in, so an episode looks the same whoever loads it, and when.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from fssbench.engine.inputs import fit_image, fit_label
from fssbench.method import IMAGENET_MEAN, VOID, Preprocess
from fssbench.training.recipe import Augmentation

_TRIES = 31
_FILL = [round(255 * value) for value in IMAGENET_MEAN]


def changed(
    image: Image.Image,
    labels: list[NDArray[np.uint8]],
    how: Preprocess,
    change: Augmentation,
    rng: np.random.Generator,
    target: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """Pixels 3 x H x W and labels H x W each, uint8; `target` is the object's value in the first label map."""
    if change.around_object is not None:
        image, labels = _around(image, labels, change.around_object, rng, target)
    if change.area is not None:
        image, labels = _area(image, labels, change.area, rng)
    if change.crop and how.size is not None:
        pixels, masks = _scaled(image, labels, how, change, rng)
        pixels, masks = _cropped(pixels, masks, how.size, change.keep_object, rng, target)
    else:
        pixels = tv_tensors.Image(fit_image(image, how))
        masks = tv_tensors.Mask(torch.stack([fit_label(label, how) for label in labels]))
    if change.flip and rng.random() < change.flip:
        pixels, masks = v2.horizontal_flip(pixels), v2.horizontal_flip(masks)
    return pixels.as_subclass(Tensor).contiguous(), [m.contiguous() for m in masks.as_subclass(Tensor)]


def _scaled(
    image: Image.Image, labels: list[NDArray[np.uint8]], how: Preprocess, change: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Scaled, rotated and blurred. A squashed input is scaled by the input's sides, any other by its own."""
    pixels: Tensor = tv_tensors.Image(torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()))
    masks: Tensor = tv_tensors.Mask(torch.from_numpy(np.stack(labels)))
    sides = how.size if how.fit == "squash" and how.size is not None else (image.height, image.width)
    factor = rng.uniform(*change.scale) if change.scale else 1.0
    size = [max(1, round(side * factor)) for side in sides]
    pixels, masks = v2.resize(pixels, size, antialias=True), v2.resize(masks, size)
    if change.rotate and rng.random() < 0.5:
        angle = rng.uniform(-change.rotate, change.rotate)
        pixels = v2.rotate(pixels, angle, InterpolationMode.BILINEAR, fill=_FILL)
        masks = v2.rotate(masks, angle, InterpolationMode.NEAREST, fill=VOID)
    if change.blur and rng.random() < change.blur:
        pixels = v2.gaussian_blur(pixels, [5, 5])
    return pixels, masks


def _cropped(
    pixels: Tensor, masks: Tensor, size: tuple[int, int], share: float, rng: np.random.Generator, target: int
) -> tuple[Tensor, Tensor]:
    """A random window, drawn again while it holds less than a share of the object; short sides are padded first."""
    height, width = size
    short = [max(0, height - pixels.shape[-2]), max(0, width - pixels.shape[-1])]
    around = [short[1] // 2, short[0] // 2, short[1] - short[1] // 2, short[0] - short[0] // 2]
    pixels, masks = v2.pad(pixels, around, fill=_FILL), v2.pad(masks, around, fill=VOID)
    whole = int((masks[0] == target).sum())
    top = left = 0
    for _ in range(_TRIES if share else 1):
        top = int(rng.integers(pixels.shape[-2] - height + 1))
        left = int(rng.integers(pixels.shape[-1] - width + 1))
        inside = int((masks[0, top : top + height, left : left + width] == target).sum())
        if inside >= share * whole:
            break
    return v2.crop(pixels, top, left, height, width), v2.crop(masks, top, left, height, width)


def _area(
    image: Image.Image, labels: list[NDArray[np.uint8]], area: tuple[float, float], rng: np.random.Generator
) -> tuple[Image.Image, list[NDArray[np.uint8]]]:
    """A random window of so much of the image, of a ratio from 3/4 to 4/3; the middle square after ten vain tries."""
    width, height = image.size
    for _ in range(10):
        wanted, ratio = rng.uniform(*area) * width * height, rng.uniform(3 / 4, 4 / 3)
        w, h = round(math.sqrt(wanted * ratio)), round(math.sqrt(wanted / ratio))
        if rng.random() < 0.5:
            w, h = h, w
        if 0 < w <= width and 0 < h <= height:
            return _window(image, labels, int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    side = min(width, height)
    return _window(image, labels, (height - side) // 2, (width - side) // 2, side, side)


def _around(
    image: Image.Image,
    labels: list[NDArray[np.uint8]],
    away: tuple[float, float],
    rng: np.random.Generator,
    target: int,
) -> tuple[Image.Image, list[NDArray[np.uint8]]]:
    """A window around the object, each side a random share of the object's size away."""
    rows, columns = (np.flatnonzero((labels[0] == target).any(axis)) for axis in (1, 0))
    if not len(rows):
        return image, labels
    sides = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1], dtype=float)
    sides += rng.uniform(*away, 4) * np.repeat(sides[[1, 3]] - sides[[0, 2]], 2) * (-1, 1, -1, 1)
    top, bottom, left, right = np.clip(sides, 0, np.repeat(labels[0].shape, 2)).astype(int).tolist()
    return _window(image, labels, top, left, bottom - top, right - left)


def _window(
    image: Image.Image, labels: list[NDArray[np.uint8]], top: int, left: int, height: int, width: int
) -> tuple[Image.Image, list[NDArray[np.uint8]]]:
    cut = image.crop((left, top, left + width, top + height))
    return cut, [label[top : top + height, left : left + width] for label in labels]
