"""Weak supports derived from masks: boxes, scribbles and points.

Box: as in PANet's code, with connected parts of the class in place of VOC's instances. Scribbles and points are our
own, in the manner of DAVIS' generator, which PANet's strokes came from: a stroke follows the middle of an object, and
other strokes the middle of the background. Worse masks are in `fssbench.banks.qualities`. Everything is whole-number
arithmetic on the label map and on raw random words, so that one seed gives one annotation on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fssbench.banks.medial import longest_stroke
from fssbench.banks.qualities import QUALITIES
from fssbench.banks.randomness import below
from fssbench.datasets.masks import Labels, void_of
from fssbench.errors import DataError, UsageError, unknown_name

Codes = NDArray[np.uint8]  # H x W of the codes below
Region = NDArray[np.bool_]
Kind = Callable[[Labels, int, np.random.Generator], Codes]

BACKGROUND, OBJECT, UNLABELLED = 0, 1, 3

_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours by side and corner
_BACKGROUND_STROKES = 3


def annotate(kind: str, labels: Labels, class_id: int, rng: np.random.Generator) -> Codes:
    """H x W codes of one class: 0 background, 1 object, 3 unlabelled. Nobody draws 255: void is background to a box.

    Raises `UsageError` for an unknown kind, `DataError` if the map does not show the class.
    """
    if kind not in KINDS:
        raise UsageError(unknown_name("annotation", kind, KINDS))
    if not (labels == class_id).any():
        raise DataError(f"expected class {class_id} in the label map, found only {np.unique(labels).tolist()}.")
    return KINDS[kind](labels, class_id, rng)


def _worse_mask(worsen: Callable[[Region, np.random.Generator], Region]) -> Kind:
    """All of the class's pixels, worsened; the rest is background."""
    return lambda labels, class_id, rng: worsen(labels == class_id, rng).astype(np.uint8)


def box(labels: Labels, class_id: int, rng: np.random.Generator) -> Codes:
    """The tight box, ends included, of the largest part is object; what no part's box covers is background.

    Between the two, in the smaller parts' boxes only, nothing is known. `rng` is not used.
    """
    parts, sizes = _parts(labels == class_id)
    codes: Codes = np.full(labels.shape, BACKGROUND, dtype=np.uint8)
    boxes = ndimage.find_objects(parts)
    for window in boxes:
        codes[window] = UNLABELLED
    codes[boxes[int(np.argmax(sizes))]] = OBJECT
    return codes


def scribble(labels: Labels, class_id: int, rng: np.random.Generator) -> Codes:
    """One stroke on the object, as PANet keeps one, and up to three on the background.

    The object's stroke lies in one of its parts, drawn among those at least a quarter as large as the largest. The
    background's strokes lie in the largest parts of class 0, or of the other classes where there is no class 0.
    """
    radius = max(1, max(labels.shape) // 200)
    codes: Codes = np.full(labels.shape, UNLABELLED, dtype=np.uint8)
    background = _background(labels, class_id)
    for part in _large_parts(background, share=10)[:_BACKGROUND_STROKES]:
        codes[_thick(longest_stroke(part, rng), radius) & part] = BACKGROUND
    part = _some_part(labels == class_id, rng)
    codes[_thick(longest_stroke(part, rng), radius) & part] = OBJECT
    return codes


def point(labels: Labels, class_id: int, rng: np.random.Generator) -> Codes:
    """One dot on a part of the object and one on the background, each well inside of it."""
    radius = max(2, max(labels.shape) // 100)
    codes: Codes = np.full(labels.shape, UNLABELLED, dtype=np.uint8)
    background = _background(labels, class_id)
    if background.any():
        codes[_dot(_some_part(background, rng), radius, rng)] = BACKGROUND
    codes[_dot(_some_part(labels == class_id, rng), radius, rng)] = OBJECT
    return codes


KINDS: dict[str, Kind] = {
    "box": box,
    "scribble": scribble,
    "point": point,
    **{name: _worse_mask(worsen) for name, worsen in QUALITIES.items()},
}


def _background(labels: Labels, class_id: int) -> Region:
    """Class 0; everything but the class and void where an image has none of it."""
    zero = labels == 0
    return np.asarray(zero if zero.any() else (labels != class_id) & (labels != void_of(labels)))


def _parts(region: Region) -> tuple[NDArray[np.signedinteger], NDArray[np.intp]]:
    """Connected parts, numbered from 1 in the order of their first pixels, and their sizes in px."""
    numbered, count = ndimage.label(region, structure=_EIGHT)
    return numbered, np.bincount(numbered.ravel(), minlength=count + 1)[1:].astype(np.intp)


def _large_parts(region: Region, share: int) -> list[Region]:
    """The parts that have at least 1/share of the largest one's pixels, largest first."""
    numbered, sizes = _parts(region)
    order = sorted(range(len(sizes)), key=lambda i: (-int(sizes[i]), i))
    return [np.asarray(numbered == i + 1) for i in order if sizes[i] * share >= sizes[order[0]]]


def _some_part(region: Region, rng: np.random.Generator) -> Region:
    parts = _large_parts(region, share=4)
    return parts[below(rng, len(parts))]


def _thick(stroke: Region, radius: int) -> Region:
    return np.asarray(ndimage.binary_dilation(stroke, structure=_disc(radius)))


def _dot(part: Region, radius: int, rng: np.random.Generator) -> Region:
    """A disc, as far as it lies in the part, around one of the pixels at least half as deep inside as the deepest."""
    depth = ndimage.distance_transform_cdt(np.pad(part, 1), metric="chessboard")[1:-1, 1:-1]
    rows, columns = np.nonzero(2 * depth >= depth.max())
    chosen = below(rng, len(rows))
    dot = np.zeros(part.shape, dtype=bool)
    dot[rows[chosen], columns[chosen]] = True
    return _thick(dot, radius) & part


def _disc(radius: int) -> Region:
    reach = np.arange(-radius, radius + 1)
    return np.asarray(reach[:, None] ** 2 + reach[None, :] ** 2 <= radius * radius + radius // 2)
