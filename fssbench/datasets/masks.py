"""Masks of an image: one label map, or, where objects of several classes may share pixels, one mask a class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.reading import encode_png
from fssbench.errors import DataError

Labels = NDArray[Any]  # H x W class ids, uint8 or uint16; 0 background, the type's largest value void
LARGEST_CLASS = 65534  # id: what 16 bits hold beside void
VOID = 255  # the label of pixels that belong to no class, in label maps of 8 bits and in codes


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask as the data set ships it, or as it was drawn from annotations.

    With `class_id` 0 the pixel values are class ids (0 background, the largest value of 8 or 16 bits void);
    otherwise the mask is binary: everything but 0 is an object of that one class.
    """

    file: bytes | None  # the file's own bytes, PNG
    class_id: int = 0
    labels: Labels | None = None  # H x W class ids, where no file holds them

    @classmethod
    def drawn(cls, labels: Labels, class_id: int = 0) -> Mask:
        """A mask that no file holds: H x W class ids. It becomes a PNG only if one is asked for."""
        return cls(None, class_id, labels)

    @property
    def encoded(self) -> bytes:
        """PNG bytes: the file's own if there is one."""
        if self.file is not None:
            return self.file
        if self.labels is None:
            raise ValueError("a mask is a file or was drawn, and here it is neither")
        return encode_png((self.labels == self.class_id).astype(np.uint8) if self.class_id else self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and (self.encoded, self.class_id) == (other.encoded, other.class_id)

    def __hash__(self) -> int:
        return hash((self.encoded, self.class_id))


def void_of(labels: Labels) -> int:
    """The value that means void in a label map: 255, or 65535 of 16 bits."""
    return int(np.iinfo(labels.dtype).max)


def label_hash(labels: Labels) -> str:
    """SHA-256 over a label map's shape and class ids, so that palette and grey copies of one map agree."""
    header = f"label map {labels.shape[0]} {labels.shape[1]} {labels.dtype.str[1:]}\n".encode("ascii")
    return hashlib.sha256(header + labels.astype(labels.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()


@dataclass(frozen=True)
class Layers:
    """The decoded masks of one image, by class id ascending; a label map of all classes stands alone, under 0."""

    maps: Mapping[int, Labels]

    @classmethod
    def of(cls, masks: Sequence[tuple[int, Labels]], where: str) -> Layers:
        """From (class id, label map). Raises `DataError` (naming `where`) for maps that do not go together."""
        maps = dict(sorted(masks, key=lambda pair: pair[0]))
        if not maps or len(maps) != len(masks) or (0 in maps and len(maps) > 1):
            found = ", ".join(str(class_id) for class_id, _ in masks) or "nothing"
            raise DataError(f"{where}: expected one label map, or one mask a class, found masks of {found}.")
        shapes = {labels.shape for labels in maps.values()}
        if len(shapes) > 1:
            sizes = ", ".join(f"{shape[0]} x {shape[1]}" for shape in sorted(shapes))
            raise DataError(f"{where}: expected masks of one size, found {sizes}.")
        return cls(maps)

    @property
    def shape(self) -> tuple[int, int]:
        """H, W."""
        height, width = next(iter(self.maps.values())).shape
        return height, width

    @property
    def hashes(self) -> tuple[tuple[int, str], ...]:
        """(class id, `label_hash`) of every map."""
        return tuple((class_id, label_hash(labels)) for class_id, labels in self.maps.items())

    @property
    def areas(self) -> dict[int, int]:
        """Class -> px, of the classes that the image shows."""
        return {class_id: count for labels in self.maps.values() for class_id, count in _counts(labels)}

    def mask(self, class_id: int) -> NDArray[np.uint8]:
        """H x W codes of one class: 0 background, 1 object, 255 void."""
        return self.truth((class_id,))

    def truth(self, classes: Sequence[int]) -> NDArray[np.uint8]:
        """H x W: 0 background, n where the n-th of `classes` is, 255 where void is or two of them are."""
        truth = np.zeros(self.shape, dtype=np.uint8)
        if 0 in self.maps:
            labels = self.maps[0]
            for place, class_id in enumerate(classes, start=1):
                truth[labels == class_id] = place
            truth[labels == void_of(labels)] = VOID
            return truth
        for place, class_id in enumerate(classes, start=1):
            if class_id in self.maps:
                here = self.maps[class_id] == class_id
                truth[here] = np.where(truth[here] == 0, place, VOID)
        return truth

    def label_map(self, class_id: int) -> Labels:
        """H x W class ids; where classes overlap `class_id` is on top, and the smaller ids are over the larger."""
        if len(self.maps) == 1:
            return next(iter(self.maps.values()))
        labels = np.zeros(self.shape, dtype=np.uint8 if max(self.maps) < VOID else np.uint16)
        for number in sorted(self.maps, key=lambda c: (c == class_id, -c)):
            labels[self.maps[number] == number] = number
        return labels


def _counts(labels: Labels) -> Iterator[tuple[int, int]]:
    counts = np.bincount(labels.ravel())
    void = void_of(labels)
    yield from ((int(c), int(counts[c])) for c in np.flatnonzero(counts) if c not in (0, void))
