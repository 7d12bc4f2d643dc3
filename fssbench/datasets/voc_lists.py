"""The published image lists of PASCAL VOC 2012 and PASCAL-5i, which come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Literal

Pair = tuple[str, int]  # image, class

# HSNet's and PMMs' val lists are OSLSM's but for these; the episodes of the original benchmark need them put right.
_OSLSM_HAS = (("2010_001246", 2), ("2010_002792", 2))
_OSLSM_HAS_NOT = (("2009_004509", 3), ("2011_002509", 9), ("2009_002571", 16))


@cache
def voc_ids(name: Literal["val", "trainaug"]) -> tuple[str, ...]:
    """The 1449 images of VOC 2012 val, or the 10582 of train and SBD outside val, ascending."""
    return tuple(_image_id(year, number) for year, *numbers in _lines(f"voc2012_{name}.txt") for number in numbers)


@cache
def pascal5i_pairs(name: Literal["val", "oslsm", "train"]) -> tuple[Pair, ...]:
    """All (image, class) pairs of a published list: "val" as HSNet and PMMs ship it, "oslsm" the original one.

    Test lists are in the files' order, by image, then class; the train list by class, then image.
    """
    pairs = [
        (_image_id(year, number), int(class_id))
        for class_id, year, *numbers in _lines(f"pascal5i_{'train' if name == 'train' else 'val'}.txt")
        for number in numbers
    ]
    if name == "train":
        return tuple(pairs)
    if name == "oslsm":
        pairs = [pair for pair in pairs if pair not in _OSLSM_HAS_NOT] + list(_OSLSM_HAS)
    return tuple(sorted(pairs))


def _lines(name: str) -> Iterator[list[str]]:
    text = (files("fssbench") / "data" / name).read_text(encoding="utf-8")
    return (line.split() for line in text.splitlines() if not line.startswith("#"))


def _image_id(year: str, number: str) -> str:
    return f"{year}_{int(number):06d}"
