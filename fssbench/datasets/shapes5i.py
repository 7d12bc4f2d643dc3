"""shapes5i: 20 classes of rendered figures in four folds. Needs no download and no files at all.

A class is a shape with a texture (a striped ring); a held-out class is a new combination of shapes and textures that
the training classes show too. Colours are random for each figure, and the clutter holds the shapes without texture
and the textures on other shapes, so no single cue tells a class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.reading import encode_png
from fssbench.datasets.shapes_render import render_image, render_labels
from fssbench.datasets.shapes_scene import COMBINATIONS, Scene, make_scene
from fssbench.errors import DataError, UsageError, unknown_name

POOLS = ("test", "train", "no-novel")
STREAMS = {"test": (0, 40), "train": (1, 80)}  # number of the random stream, images a class


class Shapes5i(Dataset):
    """20 classes x 40 images of 256 px ("test", the default), or x 80 for training.

    In the pools "train" and "no-novel" episodes are of the 15 training classes; "no-novel" leaves out the images
    that show a held-out class. `root` is not used.
    """

    name = "shapes5i"
    class_names = {number: f"{texture} {shape}" for number, (shape, texture) in enumerate(COMBINATIONS, start=1)}
    folds = tuple(tuple(range(5 * fold + 1, 5 * fold + 6)) for fold in range(4))
    list_pools = ("train",)
    min_area = 700  # px of 256 x 256; what 2048 px are of a VOC picture

    def __init__(self, root: Path | None = None, *, pool: str = "default") -> None:
        self.pool = "test" if pool == "default" else pool
        if self.pool not in POOLS:
            raise UsageError(unknown_name("image list of shapes5i", self.pool, POOLS))

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        if self.pool != "no-novel":
            return self._ids
        held_out = set(self.folds[fold])
        return [image_id for image_id in self._ids if not held_out & scene(image_id).class_ids]

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        held_out = tuple(self.folds[fold])
        return held_out if self.pool == "test" else tuple(c for c in self.class_names if c not in held_out)

    def image_bytes(self, image_id: str) -> bytes:
        return encode_png(render_image(scene(image_id)))

    def mask(self, image_id: str) -> Mask:
        return Mask(_encoded_labels(image_id))

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        stream = "test" if self.pool == "test" else "train"
        numbers = range(STREAMS[stream][1])
        return tuple(f"{stream}-{class_id:02}-{i:02}" for class_id in self.class_names for i in numbers)


@lru_cache(maxsize=4096)
def scene(image_id: str) -> Scene:
    """What an image shows, by its name `stream-class-number`. Raises `DataError` if there is no such image."""
    parts = re.fullmatch(r"([a-z]+)-(\d\d)-(\d\d)", image_id)
    stream, count = STREAMS.get(parts[1], (0, 0)) if parts else (0, 0)
    if not parts or not 1 <= int(parts[2]) <= len(COMBINATIONS) or int(parts[3]) >= count:
        raise DataError(f"expected an image of shapes5i such as 'test-01-00', found {image_id!r}.")
    return make_scene(int(parts[2]), stream, int(parts[2]), int(parts[3]))


@lru_cache(maxsize=4096)
def _encoded_labels(image_id: str) -> bytes:
    """Kept, a few KB each: a bank reads every mask several times."""
    return encode_png(render_labels(scene(image_id)))
