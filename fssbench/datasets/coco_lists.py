"""COCO val2014 as published codebases list it; the lists come with the package."""

from __future__ import annotations

import lzma
from functools import cache
from importlib.resources import files
from typing import Literal

Order = Literal["repri", "bam"]


@cache
def val2014_order(order: Order) -> tuple[int, ...]:
    """The ids of COCO val2014's 40137 annotated images, in the order of a published list."""
    if order == "repri":
        return tuple(_listed())
    return tuple(int(line) for line in _lines("coco2014_val_bam.txt.xz"))


@cache
def val2014_pairs(fold: int) -> tuple[tuple[int, int], ...]:
    """HSNet's (image id, class) pairs of a fold, in its order: by class, a class's images in the order "repri".

    They are the pairs of at least 2048 px in PFENet's label maps, and the support lists of BAM in another order.
    """
    pairs = [(c, image) for image, classes in _listed().items() for c in classes if (c - 1) % 4 == fold]
    return tuple((image, c) for c, image in sorted(pairs, key=lambda pair: pair[0]))


@cache
def _listed() -> dict[int, tuple[int, ...]]:
    """Image id -> the classes that HSNet's lists give it, perhaps none."""
    numbers = (tuple(map(int, line.split())) for line in _lines("coco2014_val.txt.xz"))
    return {image: classes for image, *classes in numbers}  # type: ignore[misc]


def _lines(name: str) -> list[str]:
    text = lzma.decompress((files("fssbench") / "data" / name).read_bytes()).decode("ascii")
    return [line for line in text.splitlines() if not line.startswith("#")]
