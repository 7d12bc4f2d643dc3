"""COCO's run-length masks: runs of 0 and 1 by turns, column by column, as numbers or as text. Checked, then drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def parse_runs(text: str) -> list[int]:
    """COCO's compressed counts: five bits a character, signed, from the third on as differences to the last but one.

    Raises `ValueError` for a text that is none.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{chr(letter)!r} in compressed counts")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of a number
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("compressed counts that break off")
    return counts


def draw_runs(counts: Sequence[int], height: int, width: int, *, rows: bool = False) -> NDArray[np.bool_]:
    """H x W from runs, the first of which is of zeros; `rows`: row by row, as CVAT writes them.

    Raises `ValueError` unless they are whole numbers that fill the image.
    """
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.size and (runs.dtype.kind not in "iu" or runs.min() < 0 or runs.max() > height * width)):
        raise ValueError("runs that are no numbers of pixels")
    if int(runs.sum()) != height * width:
        raise ValueError(f"runs of {int(runs.sum())} px together")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(height, width) if rows else flat.reshape(width, height).T
