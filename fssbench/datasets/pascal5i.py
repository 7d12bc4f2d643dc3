"""PASCAL-5i: VOC 2012 (and SBD) in four folds of five classes, fold i holding out classes 5i+1 to 5i+5.

Reads the ordinary VOCdevkit layout. Masks are palette PNGs whose index is the class; they may also come from a zip
of masks alone, which is enough for an index bank.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
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


class Pascal5i(Dataset):
    """VOC 2012. `pool`: "voc-val" (default) or "trainaug"."""

    name = "pascal5i"
    class_names = dict(enumerate(CLASSES, start=1))
    folds = tuple(tuple(range(5 * i + 1, 5 * i + 6)) for i in range(4))

    def __init__(self, root: Path, *, pool: str = "voc-val") -> None:
        self.pool = "voc-val" if pool == "default" else pool
        if self.pool not in _FILES:
            raise UsageError(unknown_name("image list of pascal5i", self.pool, _FILES))
        self.root = _find(root)

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return _read(self.root / "JPEGImages" / f"{image_id}.jpg", image_id, "image")

    def mask(self, image_id: str) -> Mask:
        return Mask(self._read_mask(image_id))

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        path = self.root / _LISTS / _FILES[self.pool]
        try:
            return tuple(path.read_text(encoding="utf-8").split())
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: expected the image list of pool {self.pool!r}, found no file. "
                "Put VOC's own list there, one image name a line."
            ) from error

    @cached_property
    def _read_mask(self) -> Callable[[str], bytes]:
        if self.root.is_file():
            return _zip_reader(self.root)
        folder = next((self.root / name for name in _MASK_FOLDERS if (self.root / name).is_dir()), None)
        if folder is None:
            raise DataError(
                f"{self.root}: expected a folder {' or '.join(_MASK_FOLDERS)} with the masks, found neither."
            )
        return lambda image_id: _read(folder / f"{image_id}.png", image_id, "mask")


_FILES = {"voc-val": "val.txt", "trainaug": "trainaug.txt"}


def _find(root: Path) -> Path:
    """The folder with `ImageSets` or the masks, or a zip of masks. Raises `DataError` if there is none."""
    if root.is_file() and zipfile.is_zipfile(root):
        return root
    places = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"]
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
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected the {what} of {image_id}, which the image list names, found no file. "
            "Complete the data, or take the name out of the list."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: expected the {what} of {image_id}, found something unreadable ({error}).") from error


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    archive = zipfile.ZipFile(path)
    members = {Path(name).stem: name for name in archive.namelist() if name.endswith(".png")}

    def read(image_id: str) -> bytes:
        if image_id not in members:
            raise DataError(f"{path}: expected the mask of {image_id} among {len(members)} masks, found none.")
        try:
            return archive.read(members[image_id])
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: the mask of {image_id} cannot be read ({error}). Copy the file again.") from error

    return read
