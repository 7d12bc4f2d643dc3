"""What a data set answers: which images, which label map, which classes, which fold holds which classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VOID = 255  # the label of pixels that belong to no class, in every label map


class Mask(NamedTuple):
    """A label map as the data set ships it.

    With `class_id` 0 the pixel values are class ids (0 background, 255 void); otherwise the file is a binary mask:
    everything but 0 is an object of that one class.
    """

    encoded: bytes  # the file's own bytes, PNG
    class_id: int = 0


def difference(ids: Collection[Hashable], published: Collection[Hashable] | int, pool: str) -> str:
    """What `Dataset.shortfall` says of a pool's images beside a published list, or its mere number of images."""
    total = published if isinstance(published, int) else len(published)
    there = len(ids) if isinstance(published, int) else len(set(ids) & set(published))
    if there == len(ids) == total:
        return ""
    foreign = f" and {len(ids) - there} that it has not" if there < len(ids) else ""
    return f"{there} of the {total} images of the published list {pool}{foreign}"


class Dataset(ABC):
    """A data set with class ids 1..C, folds of held-out classes, and one label map an image.

    `pool` names the list of images that is in use, e.g. "val". Everything a data set returns is in a fixed order that
    does not depend on the file system.
    """

    name: str
    pool: str = "default"
    split: str = "default"  # which classes a fold holds out, where there are several published cuts
    class_names: Mapping[int, str]  # class id -> name, ids from 1
    folds: Sequence[tuple[int, ...]]  # fold -> the class ids it holds out
    min_area: int | None = None  # px; the area filter that suits its image size, where the protocol's 2048 does not

    @abstractmethod
    def image_ids(self) -> Sequence[str]:
        """The images of the pool, in the list's order."""

    @abstractmethod
    def image_bytes(self, image_id: str) -> bytes:
        """The image file's own bytes (JPEG or PNG). Raises `DataError` naming the file if it is absent."""

    @abstractmethod
    def mask(self, image_id: str) -> Mask:
        """The label map's own bytes. Raises `DataError` naming the file if it is absent."""

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        """The images that episodes of this fold may use, in the list's order."""
        return self.image_ids()

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        """The classes that episodes of this fold are drawn for: those it holds out, unless the pool is for training."""
        return tuple(self.folds[fold])

    def pairs(self, fold: int) -> Sequence[tuple[str, int]] | None:
        """The (image, class) pairs that may be drawn, where a published list fixes them; else None."""
        return None

    def shortfall(self) -> str:
        """In what the images differ from the published list of the pool; empty if in nothing, or if none is known."""
        return ""


def label_map(mask: Mask, where: str) -> NDArray[np.uint8]:
    """Decode a mask to H x W class ids. Raises `DataError` (naming `where`) if it is no index or grey PNG."""
    from fssbench.datasets.decode import decode_mask

    return decode_mask(mask, where)
