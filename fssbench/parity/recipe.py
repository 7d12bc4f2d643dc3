"""Weights and inputs of the parity cases, made anew from names, shapes and a seed.

A case stores what the authors' code returned; what it was fed is defined by this recipe, to the last bit. Every
array has a generator of its own, seeded by the CRC-32 of "seed:name", so that order plays no part.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fssbench.method import IMAGENET_MEAN, IMAGENET_STD

Size = tuple[int, int]


def generator(seed: int, name: str) -> np.random.Generator:
    """The generator of one array."""
    return np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))


def weight(name: str, shape: tuple[int, ...], seed: int, gain: float) -> NDArray[np.generic]:
    """One entry of a state dict by its name in the authors' code: He-normal matrices, mild norm layers."""
    draw, leaf = generator(seed, name), name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf in ("bias", "running_mean"):
        return np.asarray(0.1 * draw.standard_normal(shape), np.float32)
    if leaf == "running_var" or len(shape) == 1:
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    deviation = gain * np.sqrt(2.0 / math.prod(shape[1:]))
    return np.asarray(deviation * draw.standard_normal(shape), np.float32)


def state_dict(shapes: Mapping[str, tuple[int, ...]], seed: int, gain: float) -> dict[str, NDArray[np.generic]]:
    """A whole state dict in the authors' names."""
    return {name: weight(name, shape, seed, gain) for name, shape in shapes.items()}


def image(size: Size, seed: int, name: str) -> NDArray[np.uint8]:
    """H x W x 3: a coarse grid of random colours, enlarged bilinearly, with noise of deviation 12."""
    draw, (height, width) = generator(seed, name), size
    grid = draw.uniform(0, 255, (max(2, height // 24), max(2, width // 24), 3))
    top, down = _knots(grid.shape[0], height)
    left, right = _knots(grid.shape[1], width)
    down, right = down[:, None, None], right[None, :, None]
    smooth = grid[top][:, left] * (1 - down) * (1 - right) + grid[top + 1][:, left] * down * (1 - right)
    smooth = smooth + grid[top][:, left + 1] * (1 - down) * right + grid[top + 1][:, left + 1] * down * right
    noisy = smooth + draw.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def mask(size: Size, seed: int, name: str) -> NDArray[np.uint8]:
    """H x W of 0 and 1: the union of two ellipses."""
    draw, (height, width) = generator(seed, name), size
    y, x = np.mgrid[0:height, 0:width]
    inside = np.zeros((height, width), bool)
    for _ in range(2):
        centre_y, centre_x = draw.uniform(0.3, 0.7) * height, draw.uniform(0.3, 0.7) * width
        radius_y, radius_x = draw.uniform(0.12, 0.28) * height, draw.uniform(0.12, 0.28) * width
        inside |= ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 <= 1
    return inside.astype(np.uint8)


def normalised(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """H x W x 3 -> 3 x H x W, contiguous, in ImageNet's mean and deviation."""
    values = (rgb.astype(np.float32) / 255 - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _knots(count: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of `length` places on a line of `count` knots: the knot before it and the fraction beyond that."""
    places = np.linspace(0, count - 1, length)
    before = np.floor(places).astype(int).clip(max=count - 2)
    return before, places - before
