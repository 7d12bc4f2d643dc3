"""Where an object is, as annotation tools write it, and drawn: outlines, runs of pixels, small pictures, mask files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.coco_annotations import draw_polygons
from fssbench.datasets.own.pixels import Picture, cut, open_mask, stamp
from fssbench.datasets.reading import read_file
from fssbench.datasets.runs import draw_runs, parse_runs

Pixels = NDArray[np.bool_]  # H x W
_POINTS = 64  # of a circle's outline


class Shape(Protocol):
    """Where an object is."""

    def draw(self, height: int, width: int) -> Pixels:
        """H x W. Raises `ValueError` or `DataError` for what cannot be drawn."""


@dataclass(frozen=True)
class Polygons:
    """Outlines, united, less the holes: arrays x, y, x, y, ... in px, or in parts of the image's size."""

    outlines: tuple[NDArray[np.float64], ...]
    holes: tuple[NDArray[np.float64], ...] = ()
    normalised: bool = False

    @classmethod
    def of(cls, outlines: Any, holes: Any = (), *, normalised: bool = False) -> Polygons | None:
        """From lists of numbers or of points; None if no outline has three points. Raises `ValueError`."""
        found = [tuple(a for a in map(_flat, lists) if len(a) >= 6) for lists in (outlines, holes)]
        return cls(found[0], found[1], normalised) if found[0] else None

    @classmethod
    def rectangle(cls, x0: float, y0: float, x1: float, y1: float) -> Polygons:
        """From two opposite corners."""
        return cls((np.array([x0, y0, x1, y0, x1, y1, x0, y1], np.float64),))

    @classmethod
    def ellipse(cls, x: float, y: float, across: float, down: float) -> Polygons:
        """From the centre and the half axes."""
        turn = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
        return cls((np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], 1).ravel(),))

    def draw(self, height: int, width: int) -> Pixels:
        """H x W."""
        scale = np.array([width, height], np.float64) if self.normalised else np.ones(2)
        drawn = draw_polygons([(a.reshape(-1, 2) * scale).ravel() for a in self.outlines], height, width)
        if not self.holes:
            return drawn
        return drawn & ~draw_polygons([(a.reshape(-1, 2) * scale).ravel() for a in self.holes], height, width)


@dataclass(frozen=True)
class Runs:
    """Runs of 0 and 1 by turns: of the whole image by columns (COCO), or of a box by rows (CVAT)."""

    counts: Any  # numbers, or COCO's text
    size: tuple[int, int] | None = None  # H, W that the file says
    box: tuple[int, int, int, int] | None = None  # left, top, width, height

    def draw(self, height: int, width: int) -> Pixels:
        """H x W."""
        if self.box is None:
            if self.size not in (None, (height, width)):
                raise ValueError(f"a run-length mask of {self.size}")
            counts = parse_runs(self.counts) if isinstance(self.counts, str) else self.counts
            return draw_runs(counts, height, width)
        left, top, across, down = self.box
        rest = across * down - sum(self.counts)
        return _placed(draw_runs([*self.counts, *([rest] if rest > 0 else [])], down, across, rows=True), left, top,
                       height, width)  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """A small picture laid on the image: object where it is not transparent, or not black."""

    encoded: bytes
    left: int
    top: int

    def draw(self, height: int, width: int) -> Pixels:
        """H x W."""
        return _placed(stamp(self.encoded, "a mask inside an annotation"), self.left, self.top, height, width)


@dataclass(frozen=True)
class MaskFile:
    """A picture of the object, white on black."""

    path: Path
    threshold: int | None = None

    def draw(self, height: int, width: int) -> Pixels:
        """H x W of the file, whatever size is asked for."""
        return cut(self.picture(), self.threshold)

    def picture(self) -> Picture:
        """The file's pixels. Raises `DataError` naming it."""
        return open_mask(read_file(self.path, "a mask"), str(self.path))


@dataclass(frozen=True)
class Object:
    """One object: its class as the file calls it, and its mask; without one, `kind` is what there is instead."""

    label: str
    shape: Shape | None
    kind: str = "box"

    @property
    def draws_itself(self) -> bool:
        """Whether the mask's size is its own, not the image's."""
        return isinstance(self.shape, MaskFile)


def _flat(points: Any) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64).ravel()
    if len(array) % 2:
        raise ValueError(f"an outline of {len(array)} numbers")
    return array


def _placed(small: Pixels, left: int, top: int, height: int, width: int) -> Pixels:
    """H x W with a small mask at its place, what lies outside cut off."""
    drawn = np.zeros((height, width), dtype=bool)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + small.shape[1], width), min(top + small.shape[0], height)
    if x0 < x1 and y0 < y1:
        drawn[y0:y1, x0:x1] = small[y0 - top : y1 - top, x0 - left : x1 - left]
    return drawn
