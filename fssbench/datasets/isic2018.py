"""ISIC 2018 task 1 (skin lesions) as PATNet's cross-domain suite uses it: one lesion an image, of one of three classes.

Reads `ISIC/ISIC2018_Task1-2_Training_Input`, flat or sorted into folders, and `ISIC2018_Task1_Training_GroundTruth`.
The class of each image comes with the package. Which class is the first, second and third decides the published
episodes; PATNet does not say it: `split` "gfsam" (the default) is nevus, melanoma, seborrheic keratosis, "ifa" has the
last two the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask, difference
from fssbench.datasets.decode import binary_png
from fssbench.datasets.reading import files_below, first_folder, read_file
from fssbench.errors import DataError, UsageError, unknown_name

IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
SPLITS = {
    "gfsam": ("nevus", "melanoma", "seborrheic_keratosis"),
    "ifa": ("nevus", "seborrheic_keratosis", "melanoma"),
}


@cache
def published_classes() -> dict[str, str]:
    """The 2594 images by name -> their class."""
    lines = (files("fssbench") / "data" / "isic2018.txt").read_text(encoding="ascii").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return dict(sorted((f"ISIC_{int(number):07d}", name) for name, *numbers in rows for number in numbers))


class Isic2018(Dataset):
    """One fold of three classes; the images are the listed ones that are there."""

    name = "isic2018"
    min_area = 1
    class_names = dict(enumerate(SPLITS["gfsam"], start=1))
    folds = (tuple(class_names),)

    def __init__(self, root: Path, *, pool: str = "default", split: str = "default") -> None:
        if pool not in ("default", "train"):
            raise UsageError(unknown_name("image list of isic2018", pool, ["train"]))
        self.pool, self.split = "train", "gfsam" if split == "default" else split
        if self.split not in SPLITS:
            raise UsageError(unknown_name("class order of isic2018", split, SPLITS))
        self.class_names = dict(enumerate(SPLITS[self.split], start=1))
        found = first_folder([root / name for name in ("", "ISIC", "isic2018")], [IMAGES, MASKS])
        if found is None:
            raise DataError(
                f"no ISIC 2018 at {root}: expected {root / 'ISIC' / IMAGES} with the images and {MASKS} beside it. "
                "Name the right folder by --root; `fssbench download isic2018` says where to get it."
            )
        self.root = found

    def image_ids(self) -> Sequence[str]:
        return list(self._paths)

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self._path(image_id), f"the image {image_id}")

    def mask(self, image_id: str) -> Mask:
        self._path(image_id)
        path = self.root / MASKS / f"{image_id}_segmentation.png"
        numbers = {name: number for number, name in self.class_names.items()}
        encoded = binary_png(read_file(path, f"the mask of {image_id}"), str(path))
        return Mask(encoded, numbers[published_classes()[image_id]])

    def shortfall(self) -> str:
        return difference(list(self._paths), published_classes(), "isic2018")

    @cached_property
    def _paths(self) -> dict[str, str]:
        """Listed image -> its file, below the folder of images."""
        found = {Path(name).stem: name for name in files_below(self.root / IMAGES, (".jpg",))}
        return {image_id: found[image_id] for image_id in published_classes() if image_id in found}

    def _path(self, image_id: str) -> Path:
        if image_id not in self._paths:
            raise DataError(f"{self.root / IMAGES}: expected the listed image {image_id}, found no such file.")
        return self.root / IMAGES / self._paths[image_id]
