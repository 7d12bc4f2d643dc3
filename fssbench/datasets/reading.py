"""Reading a data set's files, with errors that name them, and writing label maps that no file holds."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.errors import DataError


def read_file(path: Path, what: str) -> bytes:
    """A file's bytes. Raises `DataError` naming the file and `what` it should have been."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected {what}, found no file. Complete the data.") from error
    except OSError as error:
        raise DataError(f"{path}: expected {what}, found something unreadable ({error}).") from error


def first_folder(places: Iterable[Path], holding: Sequence[str]) -> Path | None:
    """The first of `places` that holds all of the named files or folders."""
    return next((place for place in places if all((place / name).exists() for name in holding)), None)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an H x W or H x W x 3 array, compressed quickly rather than well."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names, for a message.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"
