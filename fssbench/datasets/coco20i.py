"""COCO-20i: the 80 classes of COCO instances in four folds of twenty.

Reads COCO 2014 or 2017 as published: `annotations/instances_<list>.json` and a folder of images for each list. One
label map an image: crowd regions first, then the single objects in the file's order, the later hiding the earlier
(as in RePRI's script, but with all polygons of an object, and with crowds). Class i is the i-th category by
ascending category id. There is no void in COCO.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fssbench.datasets.base import Dataset, Mask, difference
from fssbench.datasets.coco_annotations import CocoFile, Instances, load_instances, paint
from fssbench.datasets.coco_classes import CLASS_IDS, CLASSES
from fssbench.datasets.coco_lists import Order, val2014_order, val2014_pairs
from fssbench.datasets.reading import first_folder, read_file, some
from fssbench.errors import DataError, UsageError, unknown_name

SPLITS: dict[str, tuple[tuple[int, ...], ...]] = {
    "interleaved": tuple(tuple(range(1 + fold, 81, 4)) for fold in range(4)),  # PFENet, HSNet, BAM, RePRI, PMMs
    "consecutive": tuple(tuple(range(20 * fold + 1, 20 * fold + 21)) for fold in range(4)),  # PANet
}


class _Pool(NamedTuple):
    images: str
    order: Order | None = None  # a published order of the images, else by ascending id
    pairs: bool = False  # HSNet's lists of pairs
    training: bool = False  # the classes are those the fold does not hold out
    drop_novel: bool = False  # no image that shows a held-out class


POOLS: dict[str, _Pool] = {
    **{name: _Pool(name) for name in ("val2014", "train2014", "val2017", "train2017")},
    "val2014-repri": _Pool("val2014", "repri"),
    "val2014-bam": _Pool("val2014", "bam"),
    "hsnet": _Pool("val2014", "repri", pairs=True),
    "train": _Pool("train2014", training=True),
    "no-novel": _Pool("train2014", training=True, drop_novel=True),
    "train-2017": _Pool("train2017", training=True),
    "no-novel-2017": _Pool("train2017", training=True, drop_novel=True),
}


# How many images have an annotation; of val2014 the package has the list itself.
PUBLISHED = {"train2014": 82081, "val2017": 4952, "train2017": 117266}
OTHER_NAMES = {"default": "val2014", "trainaug": "train2014"}  # PANet's word for what it tests on


class Coco20i(Dataset):
    """COCO; `pool` is one of `POOLS` ("val2014" by default), `split` is "interleaved" (default) or "consecutive".

    The images of a pool are those with at least one annotation, by ascending image id or in a published order.
    """

    name = "coco20i"
    class_names = dict(enumerate(CLASSES.values(), start=1))
    list_pools = ("train2014", "val2017", "train2017")

    def __init__(self, root: Path, *, pool: str = "default", split: str = "default") -> None:
        self.pool = OTHER_NAMES.get(pool, pool)
        if self.pool not in POOLS:
            raise UsageError(unknown_name("image list of coco20i", self.pool, POOLS))
        self._pool = POOLS[self.pool]
        self.split = "interleaved" if split == "default" else split
        if self.split not in SPLITS:
            raise UsageError(unknown_name("class split of coco20i", split, SPLITS))
        if self._pool.pairs and self.split != "interleaved":
            raise UsageError(f"HSNet's lists of COCO are of the interleaved split, found --split {split}.")
        self.folds = SPLITS[self.split]
        self.root = _find(root, self._pool.images)

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        pairs = self.pairs(fold)
        if pairs is not None:
            return tuple(dict.fromkeys(image_id for image_id, _ in pairs))
        if not self._pool.drop_novel:
            return self._ids
        novel = set(self.folds[fold])
        return [i for i in self._ids if not novel & _shown(self._instances[i])]

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        held_out = tuple(self.folds[fold])
        return tuple(c for c in self.class_names if c not in held_out) if self._pool.training else held_out

    def pairs(self, fold: int) -> Sequence[tuple[str, int]] | None:
        """HSNet's pairs of the fold's classes, as far as their images are there."""
        if not self._pool.pairs:
            return None
        names = self._names
        return tuple((names[number], c) for number, c in val2014_pairs(fold) if number in names)

    def shortfall(self) -> str:
        if self._pool.images != "val2014":
            return difference(self._ids, PUBLISHED[self._pool.images], self._pool.images)
        if not self._pool.pairs:
            return difference(self._names, val2014_order("repri"), "val2014")
        listed = {number for fold in range(4) for number, _ in val2014_pairs(fold)}
        return difference(listed & self._names.keys(), listed, "hsnet")

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self._image_folder / self._image(image_id).file_name, f"the image {image_id} of COCO")

    def mask(self, image_id: str) -> Mask:
        """Crowds first, then single objects in the file's order, the later over the earlier."""
        image = self._image(image_id)
        labels = np.zeros((image.height, image.width), dtype=np.uint8, order="F")
        json = self._json
        for annotation in sorted(image.annotations, key=lambda a: not a.crowd):
            paint(labels, CLASS_IDS[annotation.category], annotation, image, f"{json}: image {image_id}")
        return Mask.drawn(np.ascontiguousarray(labels))

    def part(self, image_ids: Sequence[str]) -> Dataset:
        """The annotations are hundreds of MB: they are loaded once, and each process gets those of its images."""
        own = copy(self)
        own.__dict__ = {key: value for key, value in vars(self).items() if key not in ("_names", "_ids")}
        own._instances = {image_id: self._instances[image_id] for image_id in image_ids}
        return own

    @property
    def _json(self) -> Path:
        return self.root / "annotations" / f"instances_{self._pool.images}.json"

    @cached_property
    def _image_folder(self) -> Path:
        folders = [self.root / self._pool.images, self.root / "images" / self._pool.images]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    @cached_property
    def _instances(self) -> dict[str, Instances]:
        """Image name without suffix -> what is annotated in it, by ascending image id."""
        content = load_instances(self._json)
        _check_categories(content, self._json)
        annotated = [image for image in content.images.values() if image.annotations]
        named = {Path(image.file_name).stem: image for image in annotated}
        if len(named) != len(annotated) or any("/" in image.file_name for image in annotated):
            raise DataError(
                f"{self._json}: expected COCO's file names, one an image and without folders, found {len(named)} names "
                f"for {len(annotated)} images. {OWN}"
            )
        return named

    @cached_property
    def _names(self) -> dict[int, str]:
        """COCO's number of an image -> its name, in the pool's order; numbers that the order has not come last."""
        names = {instances.number: name for name, instances in self._instances.items()}
        order = () if self._pool.order is None else val2014_order(self._pool.order)
        return {number: names[number] for number in dict.fromkeys((*order, *names)) if number in names}

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return tuple(self._names.values())

    def _image(self, image_id: str) -> Instances:
        try:
            return self._instances[image_id]
        except KeyError:
            raise DataError(f"{self._json}: expected the image {image_id}, found {len(self._ids)} others.") from None


OWN = "Classes and images of your own are described by a dataset.toml: use the data set `folder`."


def _shown(image: Instances) -> set[int]:
    return {CLASS_IDS[annotation.category] for annotation in image.annotations}


def _check_categories(content: CocoFile, path: Path) -> None:
    """Raises `DataError` unless the categories are COCO's own: others must never get COCO's names."""
    names = {number: entry.get("name") for number, entry in content.categories.items()}
    foreign = [f"{number} {name}" for number, name in names.items() if CLASSES.get(number) != name]
    foreign += sorted(
        {str(a.category) for image in content.images.values() for a in image.annotations if a.category not in CLASS_IDS}
    )
    if foreign:
        raise DataError(f"{path}: expected COCO's 80 categories, found {some(foreign)}. {OWN}")


def _find(root: Path, images: str) -> Path:
    """The folder with `annotations`. Raises `DataError` if there is none."""
    wanted = f"annotations/instances_{images}.json"
    year = images[-4:]
    places = [root, *(root / name for name in ("coco", "COCO", f"coco{year}", f"COCO{year}", "MSCOCO", "MSCOCO2014"))]
    found = first_folder(places, [wanted])
    if found is None:
        raise DataError(
            f"no COCO {images} at {root}: expected {root / wanted} and the images in {root / images}, found neither "
            f"there nor under {root / 'coco'}. Name the right folder by --root or the variable FSSBENCH_DATA, or run "
            "`fssbench download coco20i`."
        )
    return found
