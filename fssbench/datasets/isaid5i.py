"""iSAID-5i (aerial images in patches of 256 px) in three folds of five classes, by GF-SAM's lists.

Reads `remote_sensing/iSAID_patches/{train,val}`: `images/<patch>.png`, and `semantic_png/` with the patch's name and
`_instance_color_RGB.png`, which despite that name is a map of class ids (0 background, 255 ignored). The published
(patch, class) pairs come with the package. Class names are iSAID's by its usual order, which the counts fit.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask, difference
from fssbench.datasets.reading import first_folder, read_file
from fssbench.errors import DataError, UsageError, unknown_name

CLASSES = (
    *("ship", "storage tank", "baseball diamond", "tennis court", "basketball court"),
    *("ground track field", "bridge", "large vehicle", "small vehicle", "helicopter"),
    *("swimming pool", "roundabout", "soccer ball field", "plane", "harbor"),
)
POOLS = {"val": "val", "train": "train"}  # the pool and the folder of its patches
_PLACES = ("", "iSAID_patches", "remote_sensing/iSAID_patches", "isaid5i")


@cache
def published_pairs(pool: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Of each fold, the (patch, class) pairs of its own classes, in the list's order."""
    packed = (files("fssbench") / "data" / f"isaid5i_{pool}.txt.xz").read_bytes()
    folds: list[list[tuple[str, int]]] = []
    for line in lzma.decompress(packed).decode("ascii").splitlines():
        if line.startswith("# fold"):
            folds.append([])
        elif not line.startswith("#"):
            patch, _, number = line.rpartition("__")
            folds[-1].append((patch, int(number)))
    return tuple(map(tuple, folds))


class Isaid5i(Dataset):
    """`pool` is "val" (the default), or "train": pairs of the ten classes that a fold does not hold out."""

    name = "isaid5i"
    class_names = dict(enumerate(CLASSES, start=1))
    folds = tuple(tuple(range(5 * fold + 1, 5 * fold + 6)) for fold in range(3))
    list_pools = ("train",)
    min_area = 1

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self.pool = "val" if pool == "default" else pool
        if self.pool not in POOLS:
            raise UsageError(unknown_name("image list of isaid5i", pool, POOLS))
        found = first_folder([root / name / POOLS[self.pool] for name in _PLACES], ["images", "semantic_png"])
        if found is None:
            raise DataError(
                f"no iSAID patches at {root}: expected {root / _PLACES[2] / POOLS[self.pool]} with images and "
                "semantic_png. Name the right folder by --root; `fssbench download isaid5i` says where to get them."
            )
        self.root = found
        there = {path.name.removesuffix(".png") for path in (found / "images").glob("[!.]*.png")}
        self._pairs = [[pair for pair in pairs if pair[0] in there] for pairs in published_pairs(self.pool)]

    def image_ids(self) -> Sequence[str]:
        return list(dict.fromkeys(patch for pairs in self._pairs for patch, _ in pairs))

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        return list(dict.fromkeys(patch for patch, _ in self.pairs(fold)))

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        held_out = self.folds[fold]
        return held_out if self.pool == "val" else tuple(c for c in self.class_names if c not in held_out)

    def pairs(self, fold: int) -> Sequence[tuple[str, int]]:
        if self.pool == "val":
            return self._pairs[fold]
        return [pair for number, pairs in enumerate(self._pairs) if number != fold for pair in pairs]

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self.root / "images" / f"{image_id}.png", f"the patch {image_id}")

    def mask(self, image_id: str) -> Mask:
        path = self.root / "semantic_png" / f"{image_id}_instance_color_RGB.png"
        return Mask(read_file(path, f"the mask of {image_id}"))

    def shortfall(self) -> str:
        there = [pair for pairs in self._pairs for pair in pairs]
        listed = [pair for pairs in published_pairs(self.pool) for pair in pairs]
        return difference(there, listed, f"{self.name} {self.pool}").replace("images", "(image, class) pairs")
