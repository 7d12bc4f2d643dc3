"""Image lists as the field writes them, for any data set.

One image a line, with or without folders, suffix and mask: `2007_000032`, `JPEGImages/a.jpg SegmentationClass/a.png`
(PFENet, BAM), an absolute path of another machine; or with the class that is meant, `2007_000032__05` (HSNet, DCAMA).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.own.patterns import PICTURES, plain
from fssbench.datasets.reading import read_text, some
from fssbench.errors import DataError

_WITH_CLASS = re.compile(r"(.+)__(\d+)")
_FORMS = '"image", "image mask" or "image__class"'


@dataclass(frozen=True)
class ImageList:
    """What a list names, in its order."""

    images: tuple[str, ...]
    pairs: tuple[tuple[str, int], ...] = ()  # image and class id, where the list says classes


def read_list(path: Path, image_ids: Sequence[str]) -> ImageList:
    """The images of a list among `image_ids`. Raises `DataError` for lines that name none, or none clearly."""
    by_name: dict[str, list[str]] = {}
    for image_id in image_ids:
        by_name.setdefault(_stem(image_id).rpartition("/")[2], []).append(image_id)
    images: list[str] = []
    pairs: list[tuple[str, int]] = []
    absent: list[str] = []
    for number, line in enumerate(read_text(path, "an image list").splitlines(), start=1):
        if not line.strip():
            continue
        named = _WITH_CLASS.fullmatch(_stem(plain(line.strip())))
        found = _find(plain(line.strip()), by_name, path, number) or (
            _find(named[1], by_name, path, number) if named else None
        )
        if found is None:
            absent.append(f"{named[1] if named else line.strip()} (line {number})")
        elif named and _stem(found).rpartition("/")[2] != named[0].rpartition("/")[2]:
            pairs.append((found, int(named[2])))
        else:
            images.append(found)
    if absent:
        raise DataError(
            f"{path}: expected names of images ({_FORMS}), found no image for {some(absent, 3)}. The data set has "
            f"{some(list(image_ids), 3)}. Complete the data, or take the lines out."
        )
    if pairs and images:
        raise DataError(f"{path}: expected one form of line, found {len(pairs)} of image__class and {len(images)} not.")
    if len(set(pairs or images)) != len(pairs or images) or not (pairs or images):
        raise DataError(f"{path}: expected names, one a line and none twice, found {len(pairs or images)} names.")
    return ImageList(tuple(dict.fromkeys([image for image, _ in pairs] or images)), tuple(pairs))


def _find(line: str, by_name: dict[str, list[str]], path: Path, number: int) -> str | None:
    """The image of a line: of all its words, or of the first few if a mask comes behind."""
    parts = re.split(r"([ \t]+)", line)
    for end in range(len(parts), 0, -2):
        name = _stem("".join(parts[:end]))
        fits = [i for i in by_name.get(name.rpartition("/")[2], ()) if _tail(_stem(i), name)]
        longest = [i for i in fits if f"/{name}".endswith(f"/{_stem(i)}")]
        if len(fits) > 1 and len(longest) != 1:
            exact = [i for i in longest if len(i) == max(map(len, longest))]
            if len(exact) != 1:
                raise DataError(
                    f"{path}, line {number}: expected one image, found {some(fits)} for {name!r}. Write its folder too."
                )
            return exact[0]
        if fits:
            return longest[0] if longest else fits[0]
    return None


def _tail(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _stem(name: str) -> str:
    suffix = Path(name).suffix
    return plain(name[: -len(suffix)] if suffix.lower() in PICTURES else name)


class Listed(Dataset):
    """A data set of which a list chooses images, and, if it says so, the class that each is drawn for."""

    def __init__(self, pools: Sequence[Dataset], path: Path) -> None:
        """`pools`: the same data set opened with several image lists; an image is read from the first that has it."""
        owner = {image_id: pool for pool in reversed(pools) for image_id in pool.image_ids()}
        self._list = read_list(path, list(owner))
        self._owner = {image_id: owner[image_id] for image_id in self._list.images}
        self._used = list(dict.fromkeys(self._owner.values()))
        first = self._used[0]
        self.name, self.split, self.min_area = first.name, first.split, first.min_area
        self.pool = f"own-{path.stem}"
        self.class_names = {number: name for pool in self._used for number, name in pool.class_names.items()}
        self.folds = [
            tuple(sorted({class_id for pool in self._used for class_id in pool.folds[fold]}))
            for fold in range(len(first.folds))
        ]

    def image_ids(self) -> Sequence[str]:
        return self._list.images

    def image_bytes(self, image_id: str) -> bytes:
        return self._owner[image_id].image_bytes(image_id)

    def mask(self, image_id: str) -> Mask:
        return self._owner[image_id].mask(image_id)

    def masks(self, image_id: str) -> Sequence[Mask]:
        return self._owner[image_id].masks(image_id)

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        if not self._list.pairs:
            return self._list.images
        return tuple(dict.fromkeys(image for image, _ in self.pairs(fold) or ()))

    def pairs(self, fold: int) -> Sequence[tuple[str, int]] | None:
        if not self._list.pairs:
            return None
        classes = set(self.fold_classes(fold))
        return tuple(pair for pair in self._list.pairs if pair[1] in classes)

    def same_files(self) -> Sequence[Sequence[str]]:
        return [same for pool in self._used for same in pool.same_files()]

    def part(self, image_ids: Sequence[str]) -> Dataset:
        small = copy.copy(self)
        small._used = [pool.part([i for i in image_ids if self._owner[i] is pool]) for pool in self._used]
        smaller = dict(zip(map(id, self._used), small._used, strict=True))
        small._owner = {image_id: smaller[id(self._owner[image_id])] for image_id in image_ids}
        return small
