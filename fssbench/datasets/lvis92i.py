"""LVIS-92i: the classes of LVIS v1 in ten folds, as Matcher and GF-SAM test them. Classes overlap, each has its mask.

Reads LVIS's own `LVIS/lvis_v1_val.json`, and COCO 2017's images in `LVIS/coco` or `coco`. The authors' pickles are not
read: a pickle runs what it holds. What they hold is made anew: a class is tested if more images show it than there are
shots, so `split` "1-shot" (92 classes a fold) and "5-shot" (68) are different tests; of those classes, by ascending
id, fold f holds each tenth from the f-th on. That the authors' order is by id is not published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask, other_classes
from fssbench.datasets.coco_annotations import Instances, load_instances, masks_by_class
from fssbench.datasets.reading import first_folder, read_file
from fssbench.errors import DataError, UsageError, unknown_name

SPLITS = {"1-shot": (1, 92), "5-shot": (5, 68)}  # shots, and how many classes a fold then tests
FOLDS = 10
_PLACES = ("", "LVIS", "lvis", "annotations")


class Lvis92i(Dataset):
    """The validation images of LVIS; an image shows all of its classes, of which a fold tests its own."""

    name = "lvis92i"
    min_area = 1

    def __init__(self, root: Path, *, pool: str = "default", split: str = "default") -> None:
        self.pool, self.split = known_options(self.name, pool, split)
        found = first_folder([root / place for place in _PLACES], ["lvis_v1_val.json"])
        if found is None:
            raise DataError(
                f"no LVIS at {root}: expected {root / 'LVIS' / 'lvis_v1_val.json'}. Name the right folder by --root, "
                "or run `fssbench download lvis92i`."
            )
        self.photographs = coco2017(root, found)
        content = load_instances(found / "lvis_v1_val.json")
        self.class_names = {
            number: str(entry.get("name", number)) for number, entry in sorted(content.categories.items())
        }
        self._images = {
            image.file_name.rpartition(".")[0]: image for image in content.images.values() if image.annotations
        }
        shown = Counter(c for image in self._images.values() for c in {a.category for a in image.annotations})
        tested = [c for c in self.class_names if shown[c] > SPLITS[self.split][0]]
        if len(tested) < FOLDS:
            raise DataError(
                f"{found / 'lvis_v1_val.json'}: expected {FOLDS} classes with more than {SPLITS[self.split][0]} images "
                f"each, found {len(tested)}. Use the published file."
            )
        self.folds = tuple(tuple(tested[fold::FOLDS][: len(tested) // FOLDS]) for fold in range(FOLDS))

    def image_ids(self) -> Sequence[str]:
        return list(self._images)

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self.photographs / self._image(image_id).file_name, f"the image {image_id} of COCO 2017")

    def masks(self, image_id: str) -> Sequence[Mask]:
        image = self._image(image_id)
        found = masks_by_class(image.annotations, image, f"{self.name}: {image_id}")
        return [Mask.drawn(labels, class_id) for class_id, labels in found.items()]

    def part(self, image_ids: Sequence[str]) -> Dataset:
        own = copy(self)
        own._images = {image_id: self._image(image_id) for image_id in image_ids}
        return own

    def shortfall(self) -> str:
        return other_classes(self.folds, [SPLITS[self.split][1]] * FOLDS, f"LVIS-92i {self.split}")

    def _image(self, image_id: str) -> Instances:
        if image_id not in self._images:
            raise DataError(f"{self.name}: expected one of its {len(self._images)} images, found {image_id}.")
        return self._images[image_id]


def known_options(name: str, pool: str, split: str) -> tuple[str, str]:
    """Pool and split of a data set that has one list and tests classes by the number of shots. Raises `UsageError`."""
    if pool not in ("default", "val"):
        raise UsageError(unknown_name(f"image list of {name}", pool, ["val"]))
    split = "1-shot" if split == "default" else split
    if split not in SPLITS:
        raise UsageError(unknown_name(f"class split of {name}", split, SPLITS))
    return "val", split


def coco2017(root: Path, annotations: Path) -> Path:
    """The folder with `val2017` and `train2017`: beside the annotations, or COCO's own; where it should be, if none."""
    places = [annotations / "coco", annotations.parent / "coco", root / "coco", root, root / "coco/images", annotations]
    return first_folder(places, ["val2017"]) or first_folder(places, ["train2017"]) or root / "coco"
