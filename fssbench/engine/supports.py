"""Supports from a user's own files, read as own data sets are: any mask a tool writes, or a class of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.datasets.base import Dataset, layers
from fssbench.datasets.decode import OWN_FORMATS, decode_image
from fssbench.datasets.own.pixels import Picture, cut, is_bimodal, is_soft, open_mask
from fssbench.datasets.reading import read_file, some
from fssbench.errors import DataError, UsageError, unknown_name
from fssbench.method import OBJECT, VOID


@dataclass(frozen=True)
class Support:
    """An image and where the object is on it: H x W codes OBJECT, 0, VOID."""

    name: str
    image: Image.Image
    codes: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if (self.image.height, self.image.width) != self.codes.shape:
            raise DataError(
                f"{self.name}: expected a mask of the size of the image ({self.image.height} x {self.image.width}), "
                f"found {self.codes.shape[0]} x {self.codes.shape[1]}. One of the two is another image's."
            )
        if not (self.codes == OBJECT).any():
            raise DataError(f"{self.name}: expected a mask with an object, found none: nothing in it is above 0.")


def read_picture(path: Path) -> Image.Image:
    """An RGB image of a user's. Raises `DataError` naming the file."""
    return decode_image(read_file(path, "an image"), str(path), OWN_FORMATS)


def support_of(image: Path, mask: Path, value: str | None = None) -> Support:
    """A support from an image and a mask, as `format = "binary"` reads it, or the pixels of one `value` of a label map.

    `value` is a number or a colour "#rrggbb". Raises `DataError` naming the file that is unreadable, without an object,
    of several values (without `value`) or of another size.
    """
    picture = open_mask(read_file(mask, "a mask"), str(mask))
    codes = _object(picture, mask) if value is None else _value(picture, mask, value)
    return Support(str(mask), read_picture(image), codes)


def supports_of(dataset: Dataset, image_ids: Sequence[str], title: str | None) -> list[Support]:
    """Supports from images of a data set, the object being its class `title` (or the only one)."""
    ids = {name: number for number, name in dataset.class_names.items()}
    if title is None and len(ids) > 1:
        raise UsageError(f"expected --class NAME, one of {some(list(ids))}, found none")
    if title is not None and title not in ids:
        raise UsageError(unknown_name(f"class of {dataset.name}", title, ids))
    number = ids[title] if title is not None else next(iter(ids.values()))
    found = []
    for image_id in image_ids:
        codes = layers(dataset, image_id).mask(number)
        found.append(Support(image_id, decode_image(dataset.image_bytes(image_id), image_id), codes))
    return found


def _object(picture: Picture, path: Path) -> NDArray[np.uint8]:
    if is_soft(picture) and not is_bimodal(picture):
        raise DataError(
            f"{path}: expected a mask of one object (black, and one other value), found {_values(picture)}. Say which "
            "of them is the object by --class-id."
        )
    if picture.values.ndim == 3 and len(np.unique(picture.colours())) > 2:
        raise DataError(
            f"{path}: expected a mask of one object, found {_values(picture)}. Say which colour is the object by "
            "--class-id '#rrggbb'."
        )
    return np.where(cut(picture), np.uint8(OBJECT), np.uint8(0))


def _value(picture: Picture, path: Path, value: str) -> NDArray[np.uint8]:
    coloured = value.startswith("#")
    try:
        wanted = int(value[1:], 16) if coloured else int(value)
    except ValueError:
        raise UsageError(f"--class-id: expected a number or a colour '#rrggbb', found {value!r}") from None
    values = picture.colours() if coloured or picture.values.ndim == 3 else picture.values
    codes = np.where(values == VOID, np.uint8(0 if coloured else VOID), np.uint8(0))
    codes[values == wanted] = OBJECT
    if not (codes == OBJECT).any():
        raise DataError(f"{path}: expected pixels of value {value}, found {_values(picture)}")
    return codes


def _values(picture: Picture) -> str:
    coloured = picture.values.ndim == 3
    found = np.unique(picture.colours() if coloured else picture.values)
    shown = [f"#{v:06x}" if coloured else str(v) for v in found[:9].tolist()]
    return f"{len(found)} {'colours' if coloured else 'values'} ({some(shown, 8)})"
