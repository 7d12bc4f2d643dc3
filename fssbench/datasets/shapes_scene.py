"""What stands in a picture of shapes5i: every figure's shape, texture, pose and colours, drawn by lot.

Everything is a function of the picture's number. Lots are made from NumPy's raw random words and rotations without
sines, with nothing but + - * /, so that a scene is the same on every machine and with every NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SIZE = 256  # px, height and width
SHAPES = ("ring", "cross", "crescent", "star", "bowtie")
TEXTURES = ("striped", "checked", "dotted", "zigzag")
CLUTTER_SHAPES = ("disc", "square", "triangle")

# Fold f holds shape s with texture (s + f) mod 4: each fold has all shapes and all textures, and the training classes
# have them too, in other combinations.
COMBINATIONS = tuple((shape, TEXTURES[(s + fold) % 4]) for fold in range(4) for s, shape in enumerate(SHAPES))
CLASS_IDS = {combination: number for number, combination in enumerate(COMBINATIONS, start=1)}

Colour = tuple[float, float, float]  # RGB, 0..255
Turn = tuple[float, float]  # cosine, sine
T = TypeVar("T")

_SEED = 20260501


class Lots:
    """Random draws that no NumPy release changes: PCG64's raw words, and arithmetic."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(_SEED, spawn_key=key))

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) / (1 << 53)

    def below(self, n: int) -> int:
        """Uniform in 0..n-1."""
        return int(self.between(0, n))

    def one(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self.between(0, 1) < probability

    def turn(self) -> Turn:
        """A rotation by any angle, as the rational point of the unit circle."""
        t = self.between(-1, 1)
        sign = 1 if self.chance(0.5) else -1
        return sign * (1 - t * t) / (1 + t * t), sign * 2 * t / (1 + t * t)

    def colour(self) -> Colour:
        """Any colour."""
        return self.between(0, 255), self.between(0, 255), self.between(0, 255)

    def octets(self, *shape: int) -> NDArray[np.uint8]:
        """Uniform bytes."""
        count = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw(-(-count // 8)), dtype="<u8")
        return words.view(np.uint8)[:count].reshape(shape)


@dataclass(frozen=True)
class Figure:
    """One thing in a picture, in drawing order."""

    shape: str
    texture: str  # "plain" for some clutter
    class_id: int  # 0: clutter
    centre: tuple[float, float]  # px; x, y
    radii: tuple[float, float]  # px; along the figure's own axes
    turn: Turn
    build: float  # 0..1: thickness of the shape
    period: float  # px of the texture
    texture_turn: Turn
    colours: tuple[Colour, Colour]


@dataclass(frozen=True)
class Scene:
    """A picture: background first, then figures, the later hiding the earlier."""

    key: tuple[int, ...]  # of the noise
    figures: tuple[Figure, ...]

    @property
    def class_ids(self) -> frozenset[int]:
        """The classes that were put in; one may be hidden by another."""
        return frozenset(f.class_id for f in self.figures) - {0}


def make_scene(main_class: int, *key: int) -> Scene:
    """A picture with at least one figure of `main_class`, among look-alikes, others and clutter."""
    lots = Lots(*key)
    figures = [_clutter(lots, lots.between(20, 90)) for _ in range(2 + lots.below(4))]
    figures += [_object(lots, _look_alike(lots, main_class), 32, 64)]
    figures += [_object(lots, 1 + lots.below(20), 30, 64) for _ in range(lots.below(3))]
    figures += [_object(lots, main_class, 44, 92) for _ in range(2 if lots.chance(0.25) else 1)]
    figures += [_clutter(lots, lots.between(7, 15)) for _ in range(lots.below(4))]  # these hide parts
    return Scene(key, tuple(figures))


def _look_alike(lots: Lots, class_id: int) -> int:
    """Another class with the same shape or the same texture."""
    shape, texture = COMBINATIONS[class_id - 1]
    alike = [number for (s, t), number in CLASS_IDS.items() if (s == shape) != (t == texture)]
    return lots.one(alike)


def _object(lots: Lots, class_id: int, smallest: float, largest: float) -> Figure:
    shape, texture = COMBINATIONS[class_id - 1]
    return _figure(lots, shape, texture, class_id, lots.between(smallest, largest))


def _clutter(lots: Lots, radius: float) -> Figure:
    """A textured shape of no class, or a shape of the classes without texture: neither cue alone tells an object."""
    if lots.chance(0.6):
        return _figure(lots, lots.one(CLUTTER_SHAPES), lots.one((*TEXTURES, "plain", "plain")), 0, radius)
    return _figure(lots, lots.one(SHAPES), "plain", 0, radius)


def _figure(lots: Lots, shape: str, texture: str, class_id: int, radius: float) -> Figure:
    stretch = lots.between(0.8, 1.25)
    reach = 0.75 * radius  # so far from the rim at least: most of a figure is in the picture
    return Figure(
        shape=shape,
        texture=texture,
        class_id=class_id,
        centre=(lots.between(reach, SIZE - reach), lots.between(reach, SIZE - reach)),
        radii=(radius * stretch, radius / stretch),
        turn=lots.turn(),
        build=lots.between(0, 1),
        period=lots.between(10, 18),
        texture_turn=lots.turn(),
        colours=_two_colours(lots),
    )


def _two_colours(lots: Lots) -> tuple[Colour, Colour]:
    """Two colours of clearly different brightness, so that a texture can be seen."""
    while True:
        first, second = lots.colour(), lots.colour()
        if abs(_brightness(first) - _brightness(second)) > 70:
            return first, second


def _brightness(colour: Colour) -> float:
    red, green, blue = colour
    return 0.3 * red + 0.59 * green + 0.11 * blue
