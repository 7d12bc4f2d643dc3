"""Where files lie, said by a pattern: `{split}/images/{image}.*`.

`{image}` is an image's name and may hold slashes; any other word in braces stands for a part of one name, `{n}` for a
number; `.*` is any picture's suffix. A word that stands in two patterns means the same in both, which is how images
find their masks. A pattern without braces is a folder of pictures: `images` is `images/{image}.*`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from fssbench.datasets.reading import files_below

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif", ".bmp", ".webp")

_WORD = re.compile(r"\{(\w+)\}")
Groups = dict[str, str]


def plain(text: str) -> str:
    """A path as it is compared: with slashes, letters composed, whatever system wrote it."""
    return unicodedata.normalize("NFC", text.replace("\\", "/"))


def words(pattern: str) -> list[str]:
    """The words in braces, in their order, each once."""
    return list(dict.fromkeys(_WORD.findall(pattern)))


def filled(pattern: str, groups: Mapping[str, str]) -> str:
    """A pattern with its words replaced, as far as they are known."""
    return _WORD.sub(lambda found: groups.get(found[1], found[0]), pattern)


def whole(pattern: str, below: str = "{image}.*") -> str:
    """A pattern of files; one without braces is a folder of them."""
    return pattern if "{" in pattern else (below if pattern in ("", ".") else f"{pattern.rstrip('/')}/{below}")


def matches(
    root: Path, pattern: str, known: Mapping[str, Collection[str]] | None = None, pictures: bool = True
) -> Iterator[tuple[Path, Groups]]:
    """Every file below `root` that fits, in order, and what its words stand for; `known` lists the values of words.

    `pictures`: only files with a picture's suffix. Links to folders are followed, hidden files passed over.
    """
    first = pattern.partition("{")[0].rpartition("/")[0]
    found = _compiled(pattern, tuple((word, tuple(values)) for word, values in (known or {}).items()))
    for name in files_below(root / first):
        path = f"{first}/{name}" if first else name
        fits = found.fullmatch(plain(path))
        if fits and (not pictures or Path(name).suffix.lower() in PICTURES):
            yield root / path, fits.groupdict()


@lru_cache(maxsize=64)
def _compiled(pattern: str, known: tuple[tuple[str, tuple[str, ...]], ...]) -> re.Pattern[str]:
    values, seen, text, place = dict(known), set[str](), "", 0
    for word in _WORD.finditer(pattern):
        text += re.escape(plain(pattern[place : word.start()]))
        name, place = word[1], word.end()
        text += f"(?P={name})" if name in seen else f"(?P<{name}>{_one(name, values.get(name, ()))})"
        seen.add(name)
    rest = plain(pattern[place:])
    if rest.endswith(".*"):
        return re.compile(f"{text}{re.escape(rest[:-2])}(?i:{'|'.join(map(re.escape, PICTURES))})")
    return re.compile(text + re.escape(rest))


def _one(word: str, values: Collection[str]) -> str:
    if values:
        return "|".join(re.escape(plain(value)) for value in sorted(values, key=len, reverse=True))
    return {"image": ".+", "n": r"\d+"}.get(word, "[^/]+?")


def image_name(groups: Mapping[str, str], pattern: str) -> str:
    """An image's id: its words one after the other."""
    return "/".join(groups[word] for word in words(pattern))
