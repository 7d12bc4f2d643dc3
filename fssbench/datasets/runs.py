"""COCO's run-length masks: runs of 0 and 1 by turns, column by column, as numbers or as text. Checked, then drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST = 12  # characters of a number: 60 bits


def parse_runs(text: str | bytes) -> NDArray[np.int64]:
    """COCO's compressed counts: five bits a character, signed, from the fourth on as differences to the last but one.

    Raises `ValueError` for a text that is none.
    """
    letters = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, dtype=np.uint8).astype(np.int64)
    bits = letters - 48
    if ((bits < 0) | (bits > 63)).any():
        raise ValueError(f"{chr(letters[(bits < 0) | (bits > 63)][0])!r} in compressed counts")
    ends = np.flatnonzero(bits < 32) + 1  # a number's last character has no sixth bit
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    if bits.size != (ends[-1] if len(ends) else 0):
        raise ValueError("compressed counts that break off")
    if not len(ends):
        return ends
    lengths = ends - starts
    if lengths.max() > _LONGEST:
        raise ValueError("compressed counts of more than 60 bits")
    places = np.arange(bits.size) - np.repeat(starts, lengths)
    counts = np.add.reduceat((bits & 31) << 5 * places, starts)
    counts -= np.where(bits[ends - 1] & 16, 1 << 5 * lengths, 0)
    for first in (1, 2):
        np.cumsum(counts[first::2], out=counts[first::2])
    return counts


def checked_runs(counts: Sequence[int] | NDArray[Any], height: int, width: int) -> NDArray[np.int64]:
    """Runs that fill an image. Raises `ValueError` for others, and for what is no whole number."""
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.size and (runs.dtype.kind not in "iu" or runs.min() < 0 or runs.max() > height * width)):
        raise ValueError("runs that are no numbers of pixels")
    if int(runs.sum()) != height * width:
        raise ValueError(f"runs of {int(runs.sum())} px together")
    return runs.astype(np.int64, copy=False)


def paint_runs(pixels: NDArray[Any], runs: NDArray[np.int64], value: int) -> None:
    """Set the runs of ones in flat `pixels`; what lies before the first and behind the last is not looked at."""
    inner = runs[1 : len(runs) // 2 * 2]  # from the first run of ones to the last
    start = int(runs[:1].sum())
    window = pixels[start : start + int(inner.sum())]
    np.copyto(window, value, where=np.repeat(np.arange(len(inner)) % 2 == 0, inner))


def draw_runs(
    counts: Sequence[int] | NDArray[Any], height: int, width: int, *, rows: bool = False
) -> NDArray[np.bool_]:
    """H x W from runs, the first of which is of zeros; `rows`: row by row, as CVAT writes them.

    Raises `ValueError` as `checked_runs` does.
    """
    pixels = np.zeros(height * width, dtype=bool)
    paint_runs(pixels, checked_runs(counts, height, width), True)
    return pixels.reshape(height, width) if rows else pixels.reshape(width, height).T
