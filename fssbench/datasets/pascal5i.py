"""PASCAL-5i: VOC 2012 (and SBD) in four folds of five classes, fold i holding out classes 5i+1 to 5i+5.

Reads the ordinary VOCdevkit layout. Masks are palette PNGs whose index is the class; they may also come from a zip
of masks alone, which is enough for an index bank.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np

from fssbench.datasets.base import Dataset, Mask, difference, label_map
from fssbench.datasets.reading import read_file
from fssbench.datasets.voc_lists import Pair, pascal5i_pairs, voc_ids
from fssbench.errors import DataError, UsageError, unknown_name

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_LISTS = "ImageSets/Segmentation"
_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
_ZIP = "voc2012_masks_aug.zip"
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError)


class _Pool(NamedTuple):
    images: Literal["val", "trainaug"]  # the image list, from the data or else from the package
    pairs: Literal["val", "oslsm", "train"] | None = None  # a published list of pairs
    training: bool = False  # the classes are those the fold does not hold out
    drop_novel: bool = False  # no image that shows a held-out class
    whole: bool = False  # of training: nothing is held out, for tests on other data sets


POOLS: dict[str, _Pool] = {
    "voc-val": _Pool("val"),
    "oslsm": _Pool("val", "oslsm"),
    "hsnet": _Pool("val", "val"),
    "trainaug": _Pool("trainaug"),  # PANet tests on held-out classes of training images
    "train": _Pool("trainaug", training=True),
    "whole": _Pool("trainaug", training=True, whole=True),
    "train-oslsm": _Pool("trainaug", "train", training=True),
    "no-novel": _Pool("trainaug", training=True, drop_novel=True),
    "train-oslsm-no-novel": _Pool("trainaug", "train", training=True, drop_novel=True),  # SG-One and PMMs
}

# Which classes a fold holds out. From COCO: those that COCO-20i's interleaved fold of that number does not train on, by
# RePRI's rule; its own table takes 7 for cat and 8 for car, which VOC has the other way round.
_FROM_COCO = ((1, 4, 9, 11, 12, 15), (2, 6, 13, 18), (3, 7, 16, 17, 19, 20), (5, 8, 10, 14))
SPLITS: dict[str, tuple[tuple[int, ...], ...]] = {
    "default": tuple(tuple(range(5 * i + 1, 5 * i + 6)) for i in range(4)),
    "from-coco": _FROM_COCO,
    "from-coco-repri": tuple(tuple({7: 8, 8: 7}.get(c, c) for c in fold) for fold in _FROM_COCO),
}


class Pascal5i(Dataset):
    """VOC 2012; `pool` is one of `POOLS`, "voc-val" by default, `split` one of `SPLITS`.

    A list at the root (`ImageSets/Segmentation/{val,trainaug}.txt`) says which images there are: an image that it
    leaves out is not there, one that it names must be. Without one the complete published list holds.
    """

    name = "pascal5i"
    class_names = dict(enumerate(CLASSES, start=1))
    folds = tuple(tuple(range(5 * i + 1, 5 * i + 6)) for i in range(4))
    list_pools = ("trainaug",)

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self.pool = "voc-val" if pool == "default" else pool
        if self.pool not in POOLS:
            raise UsageError(unknown_name("image list of pascal5i", self.pool, POOLS))
        self._pool = POOLS[self.pool]
        if self._pool.whole:
            self.folds = ((),)
        self.root = voc_folder(root)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_read_mask"}  # an open file perhaps

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        """The pool's images; those of the fold's pairs where a list gives pairs; those without novel classes."""
        pairs = self.pairs(fold)
        if pairs is not None:
            return tuple(dict.fromkeys(image_id for image_id, _ in pairs))
        return self._without_novel(fold)

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        """The held-out classes; the others for a training pool, which are all for "whole"."""
        held_out = self.folds[fold]
        return tuple(c for c in self.class_names if c not in held_out) if self._pool.training else held_out

    def pairs(self, fold: int) -> Sequence[Pair] | None:
        """The published pairs of the fold's classes, in the list's order, as far as their images are there."""
        if self._pool.pairs is None:
            return None
        classes, present = set(self.fold_classes(fold)), set(self._without_novel(fold))
        return tuple(pair for pair in pascal5i_pairs(self._pool.pairs) if pair[1] in classes and pair[0] in present)

    def shortfall(self) -> str:
        if self._pool.pairs is None:
            return difference(self._ids, voc_ids(self._pool.images), self.pool)
        listed = {image_id for image_id, _ in pascal5i_pairs(self._pool.pairs)}
        return difference([image_id for image_id in self._ids if image_id in listed], listed, self.pool)

    def image_bytes(self, image_id: str) -> bytes:
        return _read(self.root / "JPEGImages" / f"{image_id}.jpg", image_id, "image")

    def mask(self, image_id: str) -> Mask:
        return Mask(self._read_mask(image_id))

    def _without_novel(self, fold: int) -> Sequence[str]:
        """The pool's images, without those that show a held-out class if it drops them."""
        if not self._pool.drop_novel:
            return self._ids
        novel = set(self.folds[fold])
        return tuple(image_id for image_id in self._ids if not novel & self._shown[image_id])

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        path = self.root / _LISTS / f"{self._pool.images}.txt"
        if not path.is_file():
            return voc_ids(self._pool.images)
        ids = tuple(path.read_text(encoding="utf-8").split())
        if not ids or len(set(ids)) != len(ids):
            raise DataError(f"{path}: expected image names, one a line and none twice, found {len(ids)} names.")
        return ids

    @cached_property
    def _shown(self) -> dict[str, set[int]]:
        """The classes that each image shows, were it by one pixel."""
        masks = ((image_id, label_map(self.mask(image_id), f"mask of {image_id}")) for image_id in self._ids)
        return {image_id: set(np.flatnonzero(np.bincount(labels.ravel())).tolist()) for image_id, labels in masks}

    @cached_property
    def _read_mask(self) -> Callable[[str], bytes]:
        if self.root.is_file():
            return _zip_reader(self.root)
        folder = next((self.root / name for name in _MASK_FOLDERS if (self.root / name).is_dir()), None)
        if folder is None:
            expected = " or ".join(_MASK_FOLDERS)
            raise DataError(f"{self.root}: expected a folder {expected} with the masks, found neither.")
        return lambda image_id: _read(folder / f"{image_id}.png", image_id, "mask")


def voc_folder(root: Path) -> Path:
    """The folder with `ImageSets` or the masks, or a zip of masks. Raises `DataError` if there is none."""
    if root.is_file() and zipfile.is_zipfile(root):
        return root
    places = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012", root / "data" / "VOCdevkit" / "VOC2012"]
    for place in places:
        if any((place / name).is_dir() for name in (_LISTS, *_MASK_FOLDERS)):
            return place
    if (root / _ZIP).is_file():
        return root / _ZIP
    raise DataError(
        f"no PASCAL VOC 2012 at {root}: expected {root / 'VOCdevkit' / 'VOC2012'} with JPEGImages, "
        f"{_MASK_FOLDERS[0]} or {_MASK_FOLDERS[1]}, and {_LISTS}, found none of them. "
        "Name the right folder by --root or the variable FSSBENCH_DATA, or run `fssbench download pascal5i`."
    )


def _read(path: Path, image_id: str, what: str) -> bytes:
    return read_file(path, f"the {what} of {image_id}, which the image list names")


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    """Reads one folder's masks from a zip: those of classes, never VOC's SegmentationObject, which numbers objects."""
    archive = zipfile.ZipFile(path)
    folders: dict[str, dict[str, str]] = {}  # name of the folder -> image -> member
    for member in map(PurePosixPath, archive.namelist()):
        if member.suffix == ".png" and not member.name.startswith(".") and "__MACOSX" not in member.parts:
            folders.setdefault(member.parent.name, {})[member.stem] = str(member)
    named = [name for name in (*_MASK_FOLDERS, *folders) if name in folders]
    if not named or (named[0] not in _MASK_FOLDERS and len(folders) > 1):
        raise DataError(
            f"{path}: expected masks in a folder {' or '.join(_MASK_FOLDERS)}, or in one folder, found "
            f"{', '.join(sorted(folders)) or 'none'}."
        )
    members = folders[named[0]]

    def read(image_id: str) -> bytes:
        if image_id not in members:
            raise DataError(f"{path}: expected the mask of {image_id} among {len(members)} masks, found none.")
        try:
            return archive.read(members[image_id])
        except _DAMAGED as error:
            raise DataError(f"{path}: the mask of {image_id} cannot be read ({error}). Copy the file again.") from error

    return read
