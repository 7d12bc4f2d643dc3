"""FSS-1000: 1000 classes of ten images and masks each, one fold.

Reads folders `<class>/1.jpg ... 10.jpg` with masks `<class>/1.png ... 10.png`. The 240 test classes are the official
ones; the 520/240 cut of the others into training and validation is HSNet's, the one commonly used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask, difference
from fssbench.datasets.decode import binary_png
from fssbench.datasets.reading import read_file, some
from fssbench.errors import DataError, UsageError, unknown_name

POOLS = ("test", "val", "train")
IMAGES = 10  # a class

_FOLDERS = ("", "fss1000", "FSS-1000", "FSS1000", "fewshot_data", "fewshot_data/fewshot_data")


@cache
def published_classes(pool: str) -> tuple[str, ...]:
    """The classes of a pool, in the published list's order. They are folder names: spelling is kept."""
    lines = (files("fssbench") / "data" / f"fss1000_{pool}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(name for line in lines if not line.startswith("#") for name in line.split())


class Fss1000(Dataset):
    """FSS-1000; `pool` is "test" (240 classes, default), "val" (240) or "train" (520). Class ids are 1..1000 in all."""

    name = "fss1000"
    list_pools = ("val", "train")
    min_area = 1  # every mask counts, as in the published tests

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self.pool = "test" if pool == "default" else pool
        if self.pool not in POOLS:
            raise UsageError(unknown_name("image list of fss1000", self.pool, POOLS))
        names = dict(enumerate((name for known in POOLS for name in published_classes(known)), start=1))
        wanted = set(published_classes(self.pool))
        self.class_names = {number: name for number, name in names.items() if name in wanted}
        self.folds = (tuple(self.class_names),)
        self.root = _find(root, published_classes(self.pool))

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        """All images. Raises `DataError` where folders of classes are missing: a part is chosen by a list."""
        missing = [name for name in self._class_ids if not (self.root / name).is_dir()]
        if missing:
            raise DataError(
                f"{self.root}: expected the folders of {len(self._class_ids)} classes, found {len(missing)} missing: "
                f"{some(missing)}. Unpack the data set again (names keep their published spelling), or name the images "
                "to use, e.g. abacus/1, in a file for --lists."
            )
        return self._ids

    def pairs(self, fold: int) -> Sequence[tuple[str, int]]:
        """Every image, in the order of the published tests: classes and files by name, so 1, 10, 2, ... 9."""
        classes = sorted(self._class_ids.items())
        return [(f"{name}/{i}", number) for name, number in classes for i in sorted(range(1, IMAGES + 1), key=str)]

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self.root / f"{image_id}.jpg", f"an image of FSS-1000 ({IMAGES} a class)")

    def mask(self, image_id: str) -> Mask:
        path = self.root / f"{image_id}.png"
        encoded = read_file(path, "the mask of an image of FSS-1000")
        return Mask(binary_png(encoded, str(path)), self._class_ids[image_id.split("/")[0]])

    def shortfall(self) -> str:
        there = [image_id for image_id in self._ids if (self.root / f"{image_id}.png").is_file()]
        return difference(there, self._ids, f"fss1000 {self.pool}")

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return tuple(f"{name}/{i}" for name in self.class_names.values() for i in range(1, IMAGES + 1))

    @cached_property
    def _class_ids(self) -> dict[str, int]:
        return {name: number for number, name in self.class_names.items()}


def _find(root: Path, classes: Sequence[str]) -> Path:
    """The folder with most of the classes' folders. Raises `DataError` if none has any."""
    there = {place: sum((place / name).is_dir() for name in classes) for place in (root / f for f in _FOLDERS)}
    best = max(there, key=lambda place: there[place])
    if not there[best]:
        raise DataError(
            f"no FSS-1000 at {root}: expected a folder for each class, e.g. {root / 'fss1000' / classes[0]} with "
            f"1.jpg to {IMAGES}.jpg and 1.png to {IMAGES}.png, found none. Name the right folder by --root or the "
            "variable FSSBENCH_DATA; `fssbench download fss1000` says where to get it."
        )
    return best
