"""PASCAL-Part: parts of VOC 2010's objects, each object cut out, in four folds as Matcher and GF-SAM test them.

Reads `Pascal-Part/VOCdevkit/VOC2010`: `JPEGImages`, `all_obj_part_to_image.json` with the train and val images of every
part, and `Annotations_Part_json_merged_part_classes/<image>.json` with each object's box and the run-length masks of
its parts. The folds are the file's four groups of objects; a class, as "dog+HEAD", is tested if it has an image in
both lists. The crop is the box in the file's field order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from fssbench.datasets.base import other_classes
from fssbench.datasets.coco_annotations import LARGEST, Annotation, Instances
from fssbench.datasets.crops import Box, Crop, Crops, crops_of
from fssbench.datasets.reading import first_folder, read_text
from fssbench.errors import DataError, UsageError, unknown_name

LIST, ANNOTATIONS = "all_obj_part_to_image.json", "Annotations_Part_json_merged_part_classes"
GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
TESTED = (31, 4, 5, 16)  # classes a fold, from the authors' logs
LEFT_OUT = "aeroplane+TAIL"  # by the authors' code, without a reason given
_PLACES = ("", "VOC2010", "VOCdevkit/VOC2010", "Pascal-Part/VOCdevkit/VOC2010", "pascal_part/VOCdevkit/VOC2010")


class PascalPart(Crops):
    """The objects of the validation images that show a tested part; classes are numbered in the file's order."""

    name = "pascal_part"

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        if pool not in ("default", "val"):
            raise UsageError(unknown_name("image list of pascal_part", pool, ["val"]))
        self.pool = "val"
        found = first_folder([root / place for place in _PLACES], [LIST, ANNOTATIONS])
        if found is None:
            raise DataError(
                f"no PASCAL-Part at {root}: expected {root / _PLACES[3]} with {LIST}, {ANNOTATIONS} and JPEGImages. "
                "Name the right folder by --root; `fssbench download pascal_part` says where to get it."
            )
        self.root, self.photographs = found, found / "JPEGImages"
        groups = _listed(found / LIST).values()
        listed = [pair for group in groups for pair in group]
        self._numbers = {name: number for number, (name, _) in enumerate(listed, start=1)}
        self.class_names = {number: name for name, number in self._numbers.items()}
        self.folds = tuple(tuple(self._numbers[name] for name, _ in group) for group in groups)
        self._images = sorted({image for _, images in listed for image in images})

    @cached_property
    def _crops(self) -> dict[str, Crop]:
        return {
            image_id: crop
            for image in self._images
            for image_id, crop in _crops_of(self.root / ANNOTATIONS / f"{image}.json", image, self._numbers).items()
        }

    def shortfall(self) -> str:
        return other_classes(self.folds, TESTED, "PASCAL-Part")


def _listed(path: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Group -> its tested classes, each with its validation images. Raises `DataError` for another file."""
    with _of_the_format(path) as content:
        return {
            group: [
                (f"{name}+{part}", list(map(str, images["val"])))
                for name, entry in content[group]["object"].items()
                for part, images in entry["part"].items()
                if images["train"] and images["val"] and f"{name}+{part}" != LEFT_OUT
            ]
            for group in GROUPS
        }


def _crops_of(path: Path, image_id: str, numbers: dict[str, int]) -> dict[str, Crop]:
    """The crops of an image. Raises `DataError` for another file."""
    with _of_the_format(path) as content:
        objects: list[tuple[Box, list[Annotation]]] = []
        sizes: set[tuple[int, int]] = set()
        for entry in content["object"]:
            box = Box(*(int(float(end)) for end in entry["bndbox"].values()))
            parts: list[Annotation] = []
            for part in entry["parts"]:
                number = numbers.get(f"{entry['name']}+{part['name']}")
                masks = part["mask"] if number else []
                sizes |= {(int(mask["size"][0]), int(mask["size"][1])) for mask in masks}
                parts += [Annotation(len(parts), number or 0, False, mask) for mask in masks]
            objects.append((box, parts))
        if not sizes:
            return {}
        ((height, width),) = sizes
        if not 0 < height * width <= LARGEST:
            raise ValueError(f"masks of {height} x {width}")
    return crops_of(image_id, Instances(0, f"{image_id}.jpg", height, width), objects)


@contextmanager
def _of_the_format(path: Path) -> Iterator[Any]:
    """A JSON file's content. Raises `DataError` also for what the block does not find in it."""
    try:
        yield json.loads(read_text(path, "an annotation of PASCAL-Part"))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(
            f"{path}: expected JSON as Matcher distributes it, found damage or another format ({error!r}). Copy it "
            "again."
        ) from error
