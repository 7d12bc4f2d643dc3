"""Bytes of images and masks to arrays. Palette masks are read by index, never by colour."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fssbench.datasets.masks import VOID, Labels, Mask
from fssbench.datasets.reading import encode_png
from fssbench.errors import DataError

FORMATS = ("JPEG", "PNG")  # what is decoded: every other format of Pillow's is another door for a stranger's file
OWN_FORMATS = (*FORMATS, "TIFF", "GIF", "BMP", "WEBP")  # of files that a user names; banks get them as PNG
DAMAGE = (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, SyntaxError)
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_DEEP = ("I", "I;16", "I;16B", "I;16L")  # 16 bits a pixel


@contextmanager
def opened_image(
    encoded: bytes, where: str, what: str = "JPEG or PNG", formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """A Pillow image, not decoded yet. Raises `DataError` naming `where`, also for what goes wrong in the block."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(encoded), formats=formats)
        with image:
            yield image
    except (*DAMAGE, ValueError, EOFError) as error:
        raise DataError(
            f"{where}: expected a readable {what}, found {len(encoded)} bytes that do not decode ({error}). "
            "The file is truncated or damaged: copy it again."
        ) from error


def decode_image(encoded: bytes, where: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """An RGB Pillow image. Raises `DataError` naming `where` if the bytes are truncated or no image.

    A picture is what a viewer, an annotation tool or OpenCV shows: turned as its EXIF orientation says. 16 bits become
    8 by dividing the full range, not by cutting it off at 255.
    """
    with opened_image(encoded, where, " or ".join(formats), formats) as image:
        if image.mode in _DEEP:
            return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
        turned = ImageOps.exif_transpose(image)
        return turned.convert("RGB")


def image_size(
    encoded: bytes, where: str, formats: tuple[str, ...] = FORMATS, *, whole: bool = True
) -> tuple[int, int]:
    """H, W of the picture that `decode_image` gives, all of it decoded (or, if not `whole`, its header alone).

    Raises `DataError` as that does.
    """
    with opened_image(encoded, where, " or ".join(formats), formats) as image:
        if whole:
            image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
        return (image.width, image.height) if turned else (image.height, image.width)


def decode_mask(mask: Mask, where: str) -> Labels:
    """H x W class ids; 0 background, the largest value of 8 or 16 bits void. Raises `DataError` naming `where`."""
    if mask.labels is not None:
        return mask.labels
    with opened_image(mask.encoded, where, "PNG mask") as image:
        if image.mode not in ("P", "L", "1", *_DEEP):
            raise DataError(
                f"{where}: expected a mask whose pixels are class ids (a palette or grey PNG), found mode "
                f"{image.mode}. A colour picture of the mask cannot be read back; use the data set's own PNG files."
            )
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
    values = values.astype(np.uint8 if image.mode not in _DEEP else np.uint16, copy=False)
    if mask.class_id:
        return np.where(values > 0, mask.class_id, 0).astype(np.uint8 if mask.class_id < VOID else np.uint16)
    return values


def binary_png(encoded: bytes, where: str) -> bytes:
    """A mask of one object as a PNG of which everything but 0 is object. Raises `DataError` naming `where`.

    Masks of 0/1 and 0/255, grey or palette, stay as they are. Copies in colour, or with blurred edges, are
    read by their first channel and cut at half of the full value.
    """
    with opened_image(encoded, where, "PNG mask") as image:
        kind, mode, values = image.format, image.mode, np.asarray(image)
    if mode == "1":
        return encoded
    first = values if values.ndim == 2 else values[..., 0]
    clean = values.ndim == 2 and (first.max() <= 1 or set(np.unique(first).tolist()) <= {0, 255})
    if clean and kind == "PNG":
        return encoded
    return encode_png((first >= (128 if first.max() > 1 else 1)).astype(np.uint8))
