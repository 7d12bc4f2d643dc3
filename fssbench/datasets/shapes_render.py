"""From a scene of shapes5i to its picture and its label map.

Outlines use + - * / and comparisons only, which IEEE 754 fixes to the last bit: label maps are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.masks import VOID
from fssbench.datasets.shapes_scene import SIZE, Figure, Lots, Scene

Reals = NDArray[np.float64]
Colours = NDArray[np.float32]
Inside = NDArray[np.bool_]
Window = tuple[slice, slice]


def render_labels(scene: Scene) -> NDArray[np.uint8]:
    """H x W class ids; along each visible outline a border of 255, two pixels wide, as VOC has."""
    instances = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for number, figure in enumerate(scene.figures, start=1):
        window, x, y = _window(figure)
        instances[window][_outline(figure, x, y)] = number if figure.class_id else 0
    class_ids = np.array([0, *(figure.class_id for figure in scene.figures)], dtype=np.uint8)
    labels: NDArray[np.uint8] = class_ids[instances]
    labels[_edges(instances)] = VOID
    return labels


def render_image(scene: Scene) -> NDArray[np.uint8]:
    """H x W x 3 RGB."""
    lots = Lots(*scene.key, 1)
    canvas = _background(lots)
    for figure in scene.figures:
        window, x, y = _window(figure)
        inside = _outline(figure, x, y)
        colours = np.array(figure.colours, dtype=np.float32)
        canvas[window][inside] = colours[_tone(figure, x, y)[inside].astype(np.intp)]
    canvas = _soften(canvas)
    canvas *= _light(lots)
    canvas += _grain(lots)
    canvas += 0.5
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def _window(figure: Figure) -> tuple[Window, Reals, Reals]:
    """The part of the picture that a figure can reach, and its pixels' x and y from the figure's centre."""
    reach = 1.5 * max(figure.radii)  # the corner of a square is at 1.42
    spans = [(max(0, int(c - reach)), min(SIZE, int(c + reach) + 2)) for c in (figure.centre[1], figure.centre[0])]
    (top, bottom), (left, right) = spans
    x = np.arange(left, right, dtype=np.float64)[None, :] - figure.centre[0]
    y = np.arange(top, bottom, dtype=np.float64)[:, None] - figure.centre[1]
    return (slice(top, bottom), slice(left, right)), x, y


def _outline(figure: Figure, x: Reals, y: Reals) -> Inside:
    cosine, sine = figure.turn
    u = (x * cosine + y * sine) / figure.radii[0]
    v = (y * cosine - x * sine) / figure.radii[1]
    return OUTLINES[figure.shape](u, v, figure.build)


def _ring(u: Reals, v: Reals, build: float) -> Inside:
    square = u * u + v * v
    hole = 0.6 - 0.25 * build
    return (square <= 1) & (square >= hole * hole)


def _cross(u: Reals, v: Reals, build: float) -> Inside:
    arm = 0.26 + 0.16 * build
    a, b = abs(u), abs(v)
    return (np.maximum(a, b) <= 1) & (np.minimum(a, b) <= arm)


def _crescent(u: Reals, v: Reals, build: float) -> Inside:
    shift = u - (0.45 + 0.2 * build)
    return (u * u + v * v <= 1) & (shift * shift + v * v >= 0.64)


def _star(u: Reals, v: Reals, build: float) -> Inside:
    """A pentagram: inside at least four of its five lines. Thicker the farther the lines lie out."""
    far = 0.31 + 0.12 * build
    normals = ((0.0, 1.0), (0.9510565163, 0.3090169944), (0.5877852523, -0.8090169944),
               (-0.5877852523, -0.8090169944), (-0.9510565163, 0.3090169944))  # fmt: skip
    within = sum((u * a + v * b <= far).astype(np.int64) for a, b in normals)
    return np.asarray((within >= 4) & (u * u + v * v <= 1.1))


def _bowtie(u: Reals, v: Reals, build: float) -> Inside:
    waist = 0.08 + 0.2 * build
    return (abs(u) <= 1) & (abs(v) <= waist + (0.95 - waist) * abs(u))


def _disc(u: Reals, v: Reals, build: float) -> Inside:
    return u * u + v * v <= 1


def _square(u: Reals, v: Reals, build: float) -> Inside:
    return np.maximum(abs(u), abs(v)) <= 0.8 + 0.2 * build


def _triangle(u: Reals, v: Reals, build: float) -> Inside:
    return (v >= -0.7) & (v + 1.8 * abs(u) <= 0.9)


OUTLINES: dict[str, Callable[[Reals, Reals, float], Inside]] = {
    "ring": _ring, "cross": _cross, "crescent": _crescent, "star": _star, "bowtie": _bowtie,
    "disc": _disc, "square": _square, "triangle": _triangle,
}  # fmt: skip


def _tone(figure: Figure, x: Reals, y: Reals) -> Inside:
    """Which of a figure's two colours each pixel of its window has."""
    cosine, sine = figure.texture_turn
    p = (x * (cosine / figure.period)) + (y * (sine / figure.period))
    q = (y * (cosine / figure.period)) - (x * (sine / figure.period))
    return TONES[figure.texture](p, q)


def _striped(p: Reals, q: Reals) -> Inside:
    return _fraction(p) < 0.5


def _checked(p: Reals, q: Reals) -> Inside:
    return (_fraction(p) < 0.5) ^ (_fraction(q) < 0.5)


def _dotted(p: Reals, q: Reals) -> Inside:
    a, b = _fraction(p) - 0.5, _fraction(q) - 0.5
    return a * a + b * b < 0.09


def _zigzag(p: Reals, q: Reals) -> Inside:
    return _fraction(p + 2 * abs(_fraction(q / 2) - 0.5)) < 0.5


def _plain(p: Reals, q: Reals) -> Inside:
    return np.ones(p.shape, dtype=bool)


TONES: dict[str, Callable[[Reals, Reals], Inside]] = {
    "striped": _striped, "checked": _checked, "dotted": _dotted, "zigzag": _zigzag, "plain": _plain,
}  # fmt: skip


def _fraction(values: Reals) -> Reals:
    return values - np.floor(values)


def _background(lots: Lots) -> Colours:
    """H x W x 3: patches of a coarse grid, blended into each other."""
    cells = 3 + lots.below(4)
    return _enlarge(lots.octets(cells, cells, 3))


def _light(lots: Lots) -> Colours:
    """H x W x 1: brightness that falls off slowly across the picture."""
    corners = _enlarge(lots.octets(2, 2, 1))
    return corners * np.float32(0.5 / 255) + np.float32(0.65)


def _grain(lots: Lots) -> Colours:
    """H x W x 1: grey noise around 0."""
    noise = lots.octets(SIZE, SIZE, 1).astype(np.float32)
    return (noise - np.float32(127.5)) * np.float32(lots.between(0.03, 0.12))


def _enlarge(grid: NDArray[np.uint8]) -> Colours:
    """Bilinear, from n x n x C to the picture's size, corners to corners."""
    n = grid.shape[0]
    values = grid.astype(np.float32)
    place = np.arange(SIZE) * ((n - 1) / (SIZE - 1))
    low = np.minimum(place.astype(np.intp), n - 2)
    part = (place - low).astype(np.float32)[:, None, None]
    rows = values[low] + (values[low + 1] - values[low]) * part
    steps = rows[:, 1:] - rows[:, :-1]
    return np.asarray(rows[:, low] + steps[:, low] * part.transpose(1, 0, 2))


def _soften(canvas: Colours) -> Colours:
    """Weights 1 2 1 along both axes: outlines are cut pixel by pixel, and would be jagged."""
    padded = np.pad(canvas, ((1, 1), (1, 1), (0, 0)), mode="edge")
    pairs = padded[:-1] + padded[1:]
    rows = pairs[:-1] + pairs[1:]
    pairs = rows[:, :-1] + rows[:, 1:]
    return np.asarray((pairs[:, :-1] + pairs[:, 1:]) / np.float32(16))


def _edges(instances: NDArray[np.uint8]) -> Inside:
    """Pixels that touch, by side or corner, a pixel of another instance."""
    padded = np.pad(instances, 1, mode="edge")
    edges = np.zeros(instances.shape, dtype=bool)
    for i, j in ((i, j) for i in range(3) for j in range(3)):
        edges |= padded[i : i + SIZE, j : j + SIZE] != instances
    return edges
