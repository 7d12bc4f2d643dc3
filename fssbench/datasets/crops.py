"""Images that are cut out of a photograph: one object of a data set of parts, with a mask for each of its parts.

The image's id is the rule: `2008_000123#48,36,210,180` is the photograph `2008_000123` from column 48 and row 36 up to,
and without, column 210 and row 180. So a bank says of every crop what it is; its bytes are a PNG made here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.coco_annotations import Annotation, Instances, masks_by_class
from fssbench.datasets.decode import decode_image
from fssbench.datasets.reading import encode_png, read_file
from fssbench.errors import DataError


class Box(NamedTuple):
    """Pixels of a photograph, ends exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def within(self, image: Instances) -> Box:
        """The part of it that the photograph has."""
        return Box(max(self.left, 0), max(self.top, 0), min(self.right, image.width), min(self.bottom, image.height))

    def crop_of(self, photograph: str) -> str:
        """The id of the photograph's crop."""
        return f"{photograph}#{','.join(map(str, self))}"


class Crop(NamedTuple):
    """A crop, and the annotations of the parts that the objects with this box have; `category` is the class."""

    photograph: Instances
    box: Box
    parts: list[Annotation]


def crops_of(name: str, image: Instances, objects: Iterable[tuple[Box, Sequence[Annotation]]]) -> dict[str, Crop]:
    """The crops of a photograph by their ids: one for each box that has parts and is not empty."""
    found: dict[str, Crop] = {}
    for box, parts in objects:
        inside = box.within(image)
        if parts and inside.left < inside.right and inside.top < inside.bottom:
            found.setdefault(inside.crop_of(name), Crop(image, inside, [])).parts.extend(parts)
    return found


class Crops(Dataset):
    """A data set of crops, by `_crops` and the folder of their photographs."""

    min_area = 1
    photographs: Path

    @cached_property
    @abstractmethod
    def _crops(self) -> Mapping[str, Crop]:
        """Id -> crop, in the order of the images."""

    def image_ids(self) -> Sequence[str]:
        return list(self._crops)

    def image_bytes(self, image_id: str) -> bytes:
        image, box, _ = self._crop(image_id)
        path = self.photographs / image.file_name
        picture = decode_image(read_file(path, f"the photograph of {image_id}"), str(path))
        if picture.size != (image.width, image.height):
            raise DataError(
                f"{path}: expected {image.height} x {image.width} px as its annotations say, found {picture.height} x "
                f"{picture.width}. It is another image."
            )
        return encode_png(np.asarray(picture.crop(box)))

    def masks(self, image_id: str) -> Sequence[Mask]:
        image, box, parts = self._crop(image_id)
        found = masks_by_class(parts, image, f"{self.name}: parts of {image_id}")
        inside = np.s_[box.top : box.bottom, box.left : box.right]
        return [Mask.drawn(np.ascontiguousarray(labels[inside]), class_id) for class_id, labels in found.items()]

    def same_files(self) -> Sequence[Sequence[str]]:
        crops: dict[str, list[str]] = defaultdict(list)
        for image_id, crop in self._crops.items():
            crops[crop.photograph.file_name].append(image_id)
        return [same for same in crops.values() if len(same) > 1]

    def part(self, image_ids: Sequence[str]) -> Dataset:
        own = copy(self)
        own.__dict__["_crops"] = {image_id: self._crop(image_id) for image_id in image_ids}
        return own

    def _crop(self, image_id: str) -> Crop:
        if image_id not in self._crops:
            raise DataError(f"{self.name}: expected one of its {len(self._crops)} crops, found {image_id}.")
        return self._crops[image_id]
