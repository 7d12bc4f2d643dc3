"""Worse masks of supports, as people and tools draw them, by level 1 to 5: `eroded-3`, `shifted-1`.

How far a pixel moves goes by the object: at level n it is 2n % of the side of a square of its area, at least 1 px, for
`shifted` 5n %. Everything is whole-number arithmetic on the mask and on raw random words, as for other annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fssbench.banks.randomness import below

Region = NDArray[np.bool_]

LEVELS = (1, 2, 3, 4, 5)
_EIGHT = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def eroded(mask: Region, rng: np.random.Generator, level: int) -> Region:
    """The object without its rim; what would vanish keeps its innermost pixels."""
    depth = _depth(mask)
    return np.asarray(depth > min(_reach(mask, 2 * level), int(depth.max()) - 1))


def dilated(mask: Region, rng: np.random.Generator, level: int) -> Region:
    """The object and a rim around it."""
    return np.asarray(mask | (_distance(mask) <= _reach(mask, 2 * level)))


def shifted(mask: Region, rng: np.random.Generator, level: int) -> Region:
    """The object moved in one of eight directions, cut off at the image's border; never out of it altogether."""
    dy, dx = _EIGHT[below(rng, len(_EIGHT))]
    for reach in range(_reach(mask, 5 * level), 0, -1):
        for sign in (1, -1):
            moved = _moved(mask, sign * dy * reach, sign * dx * reach)
            if moved.any():
                return moved
    return mask


def ragged(mask: Region, rng: np.random.Generator, level: int) -> Region:
    """The border at random: in a rim on both of its sides, square by square, object or background."""
    reach = _reach(mask, 2 * level)
    height, width = mask.shape
    rows, columns = -(-height // reach), -(-width // reach)
    words = rng.bit_generator.random_raw(rows * columns)
    squares = (np.asarray(words, dtype=np.uint64) >> np.uint64(63)).astype(bool).reshape(rows, columns)
    noise = squares.repeat(reach, axis=0).repeat(reach, axis=1)[:height, :width]
    rim = np.where(mask, _depth(mask), _distance(mask)) <= reach
    found: Region = np.where(rim, noise, mask)
    return found if found.any() else mask


def boxed(mask: Region, rng: np.random.Generator, level: int) -> Region:
    """The whole of the tight box around all parts, wider by the rim of `dilated`."""
    reach = _reach(mask, 2 * level)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    found = np.zeros_like(mask)
    top, left = max(0, int(rows[0]) - reach), max(0, int(columns[0]) - reach)
    found[top : int(rows[-1]) + 1 + reach, left : int(columns[-1]) + 1 + reach] = True
    return found


_QUALITIES = (eroded, dilated, shifted, ragged, boxed)
QUALITIES: dict[str, Callable[[Region, np.random.Generator], Region]] = {
    f"{worsen.__name__}-{level}": partial(worsen, level=level) for worsen in _QUALITIES for level in LEVELS
}


def _reach(mask: Region, percent: int) -> int:
    """So much of the side of a square of the object's area, px."""
    return max(1, isqrt(int(mask.sum())) * percent // 100)


def _depth(mask: Region) -> NDArray[np.signedinteger]:
    """Steps to the nearest pixel that is not the object's, over sides and corners; what is outside the image is not."""
    return np.asarray(ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1])


def _distance(mask: Region) -> NDArray[np.signedinteger]:
    """Steps to the nearest pixel of the object."""
    return np.asarray(ndimage.distance_transform_cdt(~mask, metric="chessboard"))


def _moved(mask: Region, down: int, right: int) -> Region:
    height, width = mask.shape
    found = np.zeros_like(mask)
    if abs(down) < height and abs(right) < width:
        part = mask[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        found[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = part
    return found
