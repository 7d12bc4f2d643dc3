"""Large JSON files, one entry of a list at a time: COCO's are hundreds of MB and five times that as Python objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fssbench.datasets.reading import read_text
from fssbench.errors import DataError

_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def entries(path: Path, lists: tuple[str, ...], what: str) -> Iterator[tuple[str, Any]]:
    """(key, entry) of every entry of the named lists of a JSON object, in the file's order.

    Raises `DataError` for a file that is absent, no JSON, or no object; a list that is absent gives nothing.
    """
    text = read_text(path, what)
    try:
        yield from _members(text, lists)
    except (ValueError, RecursionError, IndexError) as error:
        raise DataError(f"{path}: expected {what} as JSON, found damage ({error}). Copy it again.") from error


def _members(text: str, lists: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    place = _after(text, 0)
    if text[place] != "{":
        raise ValueError(f"expected an object, found {text[place : place + 20]!r}")
    place = _after(text, place + 1)
    while text[place] != "}":
        key, place = _DECODER.raw_decode(text, place)
        place = _after(text, _expect(text, place, ":"))
        if key in lists and text[place] == "[":
            place = _after(text, place + 1)
            while text[place] != "]":
                value, place = _DECODER.raw_decode(text, place)
                yield key, value
                place = _next(text, place, "]")
            place += 1
        else:
            _, place = _DECODER.raw_decode(text, place)
        place = _next(text, place, "}")


def _after(text: str, place: int) -> int:
    """Where blanks end."""
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _expect(text: str, place: int, sign: str) -> int:
    place = _after(text, place)
    if text[place] != sign:
        raise ValueError(f"expected {sign!r} at character {place}, found {text[place]!r}")
    return place + 1


def _next(text: str, place: int, end: str) -> int:
    """The next entry's place behind a comma, or that of the closing sign."""
    place = _after(text, place)
    return place if text[place] == end else _after(text, _expect(text, place, ","))
