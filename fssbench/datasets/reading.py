"""Reading a data set's files, with errors that name them, and writing label maps that no file holds."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.errors import DataError

_GREYS = bytes(value for index in range(256) for value in (index,) * 3)


def read_file(path: Path, what: str) -> bytes:
    """A file's bytes. Raises `DataError` naming the file and `what` it should have been."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected {what}, found no file. Complete the data.") from error
    except OSError as error:
        raise DataError(f"{path}: expected {what}, found something unreadable ({error}).") from error


def read_text(path: Path, what: str) -> str:
    """A text file of any origin: UTF-8 or UTF-16, with or without a byte-order mark. Raises `DataError`."""
    content = read_file(path, what)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected {what} as UTF-8 text, found other bytes ({error}). Save it as UTF-8.") from (
            error
        )


def files_below(folder: Path, suffixes: Collection[str] = ()) -> list[str]:
    """Paths of all files below a folder, relative and POSIX, sorted as text, so alike on every system.

    Symbolic links are followed, none twice. Hidden files are passed over, as are those that a Mac leaves behind
    (`._x`, `__MACOSX`). `suffixes` in small letters.
    """
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
        if real in seen:
            continue
        seen.add(real)
        below = Path(place).relative_to(folder)
        names = (n for n in files if not n.startswith(".") and (not suffixes or Path(n).suffix.lower() in suffixes))
        found += [(below / name).as_posix() for name in names]
    return sorted(found)


def first_folder(places: Iterable[Path], holding: Sequence[str]) -> Path | None:
    """The first of `places` that holds all of the named files or folders."""
    return next((place for place in places if all((place / name).exists() for name in holding)), None)


def encode_png(pixels: NDArray[np.uint8], palette: bytes | None = None) -> bytes:
    """PNG bytes of an H x W or H x W x 3 array, compressed quickly rather than well.

    8 bits a pixel go as indices of a palette, a grey one unless another is given: for those no filter is tried, at half
    the time and half the size.
    """
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if image.mode == "L":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(palette or _GREYS)
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts.

    >>> counted(1, "image"), counted(2, "image"), counted(2, "class", "classes")
    ('1 image', '2 images', '2 classes')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names, for a message.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"
