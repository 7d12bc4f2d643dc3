"""Bytes of images and masks to arrays. Palette masks are read by index, never by colour."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fssbench.errors import DataError

if TYPE_CHECKING:
    from fssbench.datasets.base import Mask


def decode_image(encoded: bytes, where: str) -> Image.Image:
    """An RGB Pillow image. Raises `DataError` naming `where` if the bytes are truncated or no image."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{where}: expected a readable JPEG or PNG, found {len(encoded)} bytes that do not decode ({error}). "
            "The file is truncated or damaged: copy it again."
        ) from error


def decode_mask(mask: Mask, where: str) -> NDArray[np.uint8]:
    """H x W class ids; 0 background, 255 void. Raises `DataError` naming `where`."""
    try:
        with Image.open(io.BytesIO(mask.encoded)) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{where}: expected a mask whose pixels are class ids (a palette or grey PNG), found mode "
                    f"{image.mode}. A colour picture of the mask cannot be read back; use the data set's own PNG files."
                )
            values: NDArray[np.uint8] = np.asarray(image if image.mode != "1" else image.convert("L"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{where}: expected a readable PNG mask, found {len(mask.encoded)} bytes that do not decode ({error}). "
            "The file is truncated or damaged: copy it again."
        ) from error
    if mask.class_id:
        return np.where(values > 0, mask.class_id, 0).astype(np.uint8 if mask.class_id < VOID_ID else np.uint16)
    return values


VOID_ID = 255
