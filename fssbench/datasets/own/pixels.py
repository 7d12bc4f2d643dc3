"""Mask files of any tool to numbers: values or colours of a label map, object or not of a black and white picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.datasets.decode import OWN_FORMATS, opened_image
from fssbench.errors import DataError

HALF = 128  # of 255: where a soft mask is cut
_DEEP = ("I", "I;16", "I;16B", "I;16L")
Palette = NDArray[np.uint8]  # 256 x 3


@dataclass(frozen=True)
class Picture:
    """A mask file's numbers: H x W values, or H x W x 3 where they are colours; and its palette, if it has one."""

    values: NDArray[Any]
    palette: Palette | None
    jpeg: bool

    def levels(self) -> NDArray[Any]:
        """H x W of brightness, a palette's colours and a picture's channels by the brightest of them."""
        if self.palette is not None:
            return np.asarray(self.palette.max(axis=1)[self.values])
        return self.values if self.values.ndim == 2 else np.asarray(self.values.max(axis=2))

    def colours(self) -> NDArray[np.int64]:
        """H x W of 0xRRGGBB."""
        found = self.values if self.palette is None else self.palette[self.values]
        found = np.stack([found] * 3, axis=2) if found.ndim == 2 else found
        return np.asarray(found.astype(np.int64) @ np.array([65536, 256, 1]))


def open_mask(encoded: bytes, where: str) -> Picture:
    """Read a mask file; transparency that is everywhere the same says nothing. Raises `DataError` naming `where`."""
    with opened_image(encoded, where, "mask (" + ", ".join(OWN_FORMATS) + ")", OWN_FORMATS) as image:
        jpeg = image.format == "JPEG"
        if image.mode == "P":
            flat = np.zeros((256, 3), np.uint8)
            own = np.array(image.convert("P").getpalette("RGB") or [], np.uint8).reshape(-1, 3)
            flat[: len(own)] = own
            return Picture(np.asarray(image), flat, jpeg)
        if image.mode in ("1", "L"):
            return Picture(np.asarray(image).astype(np.uint8), None, jpeg)
        if image.mode in _DEEP:
            return Picture(np.asarray(image).clip(0, 65535).astype(np.uint16), None, jpeg)
        if image.mode == "LA" or "A" in image.getbands():
            lowest, highest = image.getchannel("A").getextrema()
            if lowest != highest:
                raise DataError(
                    f"{where}: expected a mask without transparency, found mode {image.mode} with alpha from {lowest} "
                    f"to {highest}: is the object where it is opaque? Save the mask as a grey PNG."
                )
        values = np.asarray(image.convert("RGB"))
    grey = bool((values == values[..., :1]).all())
    return Picture(values[..., 0] if grey else values, None, jpeg)


def cut(picture: Picture, threshold: int | None = None) -> NDArray[np.bool_]:
    """H x W of a picture of one object, white (or any colour) on black.

    Masks with one value beside 0 are read as they are. Others are soft, or a JPEG's, and cut at half of the full
    value, or at `threshold`.
    """
    levels = picture.levels()
    if threshold is None and not is_soft(picture):
        return levels > 0
    half = HALF if levels.dtype == np.uint8 else HALF * 257
    return np.asarray(levels >= (half if threshold is None else threshold))


def is_soft(picture: Picture) -> bool:
    """Whether a mask has more than 0 and one other value, or was stored with losses."""
    values = np.unique(picture.levels())
    return picture.jpeg or (values[-1] > 1 and (len(values) > 2 or values[0] > 0))


def is_bimodal(picture: Picture) -> bool:
    """Whether nearly all pixels are nearly black or nearly white, and without colour."""
    if picture.values.ndim == 3 and np.ptp(picture.values.astype(int), axis=2).max() > 48:
        return False
    levels = picture.levels()
    far = 32 if levels.dtype == np.uint8 else 32 * 257
    if 0 < levels.max() <= np.iinfo(levels.dtype).max - far:
        return False
    return bool(np.mean((levels < far) | (levels > np.iinfo(levels.dtype).max - far)) > 0.9)


def stamp(encoded: bytes, where: str) -> NDArray[np.bool_]:
    """H x W of a small mask inside an annotation: opaque where it has transparency, else what is not black."""
    with opened_image(encoded, where, "PNG", ("PNG",)) as image:
        clear = "A" in image.getbands() or "transparency" in image.info
        shown: Image.Image = image.convert("RGBA").getchannel("A") if clear else image.convert("L")
        return np.asarray(shown) > 0
