"""Worse photographs: corruptions of ImageNet-C (Hendrycks and Dietterich, 2019) at any size, by severity 1 to 5.

The constants are ImageNet-C's for 224 px, as `imagecorruptions` (Michaelis et al., 2019) keeps them for images of any
size; that package needs functions which NumPy and scikit-image no longer have, so the seven without photographs or
files of their own are written here upon SciPy and Pillow. NumPy's legacy generator, which never changes, is seeded by
corruption and image, so one image's noise is the same pattern at every severity, and in every bank.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fssbench.datasets.decode import decode_image
from fssbench.datasets.reading import encode_png
from fssbench.errors import UsageError, unknown_name
from fssbench.protocol import CORRUPTIONS, TARGETS

Pixels = NDArray[np.float64]  # H x W x 3 in 0..1
Random = np.random.RandomState

_TAG = re.compile(rf"#({'|'.join(CORRUPTIONS)})-[1-5]$")


@dataclass(frozen=True)
class Corruption:
    """What is done to the images of some role in every episode of a bank."""

    kind: str
    severity: int
    target: str  # "queries", "supports" or "both"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            raise UsageError(unknown_name("corruption", self.kind, CORRUPTIONS))
        if self.target not in TARGETS or not 1 <= self.severity <= 5 or self.seed < 0:
            raise UsageError(
                f"expected a severity from 1 to 5, a seed of at least 0 and {', '.join(TARGETS)}, found severity "
                f"{self.severity}, seed {self.seed} and {self.target!r}."
            )

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """From what `str` gives, which is how a protocol names it."""
        target, named, _, seed = text.split(" ")
        kind, _, severity = named.rpartition("-")
        return cls(kind, int(severity), target, int(seed))

    def __str__(self) -> str:
        return f"{self.target} {self.kind}-{self.severity} seed {self.seed}"

    def renamed(self, image_id: str) -> str:
        """The name of an image's corrupted copy."""
        return f"{image_id}#{self.kind}-{self.severity}"

    def apply(self, encoded: bytes, image_id: str) -> bytes:
        """The corrupted copy of an image file, PNG but for `jpeg_compression`. Raises `DataError` for no image."""
        image = decode_image(encoded, image_id)
        if self.kind == "jpeg_compression":
            file = io.BytesIO()
            image.save(file, "JPEG", quality=(25, 18, 15, 10, 7)[self.severity - 1])
            return file.getvalue()
        digest = hashlib.sha256(f"{self.seed} {self.kind} {image_id}".encode()).digest()
        rng = Random(np.frombuffer(digest, dtype="<u4"))
        changed = _PIXELS[self.kind](np.asarray(image) / 255.0, self.severity - 1, rng)
        return encode_png((changed.clip(0, 1) * 255).astype(np.uint8))


def clean_id(image_id: str) -> str:
    """The image that a corrupted copy was made of; any other name as it is.

    >>> clean_id("2007_000032#fog-3"), clean_id("a#1")
    ('2007_000032', 'a#1')
    """
    return _TAG.sub("", image_id)


def _gaussian_noise(x: Pixels, level: int, rng: Random) -> Pixels:
    return np.asarray(x + (0.08, 0.12, 0.18, 0.26, 0.38)[level] * rng.standard_normal(x.shape))


def _defocus_blur(x: Pixels, level: int, rng: Random) -> Pixels:
    radius, alias = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[level]
    reach = np.arange(-max(8, radius), max(8, radius) + 1)
    disc = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.float64)
    kernel = ndimage.gaussian_filter(disc / disc.sum(), alias, radius=1 if radius <= 8 else 2)
    return np.stack([ndimage.convolve(x[..., c], kernel, mode="mirror") for c in range(3)], axis=-1)


def _fog(x: Pixels, level: int, rng: Random) -> Pixels:
    amount, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[level]
    height, width = x.shape[:2]
    brightest = x.max()
    clouds = _plasma(rng, 1 << (max(height, width, 2) - 1).bit_length(), decay)[:height, :width, None]
    return np.asarray((x + amount * clouds) * brightest / (brightest + amount))


def _brightness(x: Pixels, level: int, rng: Random) -> Pixels:
    value = x.max(axis=-1, keepdims=True)  # of hue, saturation and value
    brighter = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 1)
    return np.asarray(np.where(value > 0, x * brighter / np.where(value > 0, value, 1), brighter))


def _contrast(x: Pixels, level: int, rng: Random) -> Pixels:
    mean = x.mean(axis=(0, 1))
    return np.asarray((x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean)


def _pixelate(x: Pixels, level: int, rng: Random) -> Pixels:
    image = Image.fromarray((x * 255).round().astype(np.uint8))
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255.0 + 1e-9  # which survives cutting off


def _plasma(rng: Random, size: int, decay: float) -> NDArray[np.float64]:
    """Clouds in 0..1 by diamonds and squares on a torus; `size` is a power of two."""
    clouds, wobble, step = np.zeros((size, size)), 100.0, size

    def rough(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(mean + wobble * rng.uniform(-wobble, wobble, mean.shape))

    while step >= 2:
        half = step // 2
        corners = clouds[::step, ::step]
        right, below = np.roll(corners, -1, axis=1), np.roll(corners, -1, axis=0)
        clouds[half::step, half::step] = rough((corners + right + below + np.roll(below, -1, axis=1)) / 4)
        middle = clouds[half::step, half::step]
        clouds[::step, half::step] = rough((corners + right + middle + np.roll(middle, 1, axis=0)) / 4)
        clouds[half::step, ::step] = rough((corners + below + middle + np.roll(middle, 1, axis=1)) / 4)
        step, wobble = half, wobble / decay
    clouds -= clouds.min()
    return np.asarray(clouds / clouds.max())


_PIXELS: dict[str, Callable[[Pixels, int, Random], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "defocus_blur": _defocus_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
}
