"""COCO's instances JSON: polygons, and run-length encodings for crowds, to masks.

pycocotools, which draws the polygons, is C code that trusts its caller: every value is checked before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.json_stream import entries
from fssbench.datasets.masks import VOID, Labels
from fssbench.datasets.runs import checked_runs, draw_runs, paint_runs, parse_runs
from fssbench.errors import DataError, PackageError

LARGEST = 100_000_000  # px of an image
_LISTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Annotation:
    """One object, or one crowd region."""

    number: int  # COCO's id
    category: int
    crowd: bool
    segmentation: Any  # polygons as arrays x, y, x, y, ...; or {"size": [h, w], "counts": runs or text}; or as found
    whole: int = 0  # PACO: the annotation of the object that a part belongs to; of an object its own number
    box: tuple[float, ...] = ()  # PACO: x, y, width, height


@dataclass
class Instances:
    """An image and what is annotated in it, in the file's order."""

    number: int  # COCO's id
    file_name: str
    height: int
    width: int
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """What an instances file holds."""

    images: dict[int, Instances]  # by ascending id, also those without annotation
    categories: dict[int, dict[str, Any]]  # id -> the file's own entry, in the file's order


def load_instances(path: Path) -> CocoFile:
    """Read a file, polygons packed. Raises `DataError` if it is absent, no JSON, or not of COCO's instances."""
    found: dict[str, list[Any]] = {name: [] for name in _LISTS}
    try:
        for name, entry in entries(path, _LISTS, "COCO's instances"):
            found[name].append(_annotation(entry) if name == "annotations" else entry)
        if not found["images"]:
            raise ValueError("entry: there are no images")
        images = {image.number: image for image in map(_image, found["images"])}
        for image_id, annotation in found["annotations"]:
            images[image_id].annotations.append(annotation)
        categories = {int(entry["id"]): dict(entry) for entry in found["categories"]}
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}: expected COCO's instances (images, annotations with image_id, category_id and segmentation), "
            f"found an entry without or with a foreign {error}. Use the published instances_*.json, or your tool's "
            "COCO export."
        ) from error
    return CocoFile(dict(sorted(images.items())), categories)


def _image(entry: dict[str, Any]) -> Instances:
    height, width = int(entry["height"]), int(entry["width"])
    if height < 1 or width < 1 or height * width > LARGEST:
        raise ValueError(f"size {height} x {width}")
    name = entry["file_name"] if "file_name" in entry else "/".join(entry["coco_url"].split("/")[-2:])  # LVIS
    if not isinstance(name, str) or name.startswith("/") or "\\" in name or {"", ".."} & set(name.split("/")):
        raise ValueError(f"file name {name!r}")
    return Instances(int(entry["id"]), name, height, width)


def _annotation(entry: dict[str, Any]) -> tuple[int, Annotation]:
    segmentation = _packed(entry.get("segmentation"))
    number, category, crowd = int(entry.get("id", 0)), int(entry["category_id"]), bool(entry.get("iscrowd", 0))
    whole = int(entry.get("obj_ann_id", 0))
    box = tuple(map(float, entry["bbox"])) if whole else ()
    if whole and (len(box) != 4 or not np.isfinite(box).all()):
        raise ValueError(f"box {entry['bbox']}")
    return int(entry["image_id"]), Annotation(number, category, crowd, segmentation, whole, box)


def _packed(segmentation: Any) -> Any:
    """Polygons as arrays, a fifth of the size of Python's lists; whatever is no list of numbers as it is."""
    if not isinstance(segmentation, list):
        return segmentation
    try:
        arrays = [np.asarray(polygon) for polygon in segmentation]
    except ValueError:
        return segmentation
    numbers = all(array.ndim == 1 and array.dtype.kind in "iuf" for array in arrays)
    return tuple(array.astype(np.float64) for array in arrays) if numbers else segmentation


def masks_by_class(annotations: Iterable[Annotation], image: Instances, where: str) -> dict[int, Labels]:
    """Class -> H x W with the class's id where any of its annotations is: classes may share pixels.

    Raises `DataError` as `paint` does.
    """
    masks: dict[int, Labels] = {}
    for annotation in annotations:
        kind = np.uint8 if annotation.category < VOID else np.uint16
        empty = np.zeros((image.height, image.width), dtype=kind, order="F")
        paint(masks.setdefault(annotation.category, empty), annotation.category, annotation, image, where)
    return {class_id: np.ascontiguousarray(labels) for class_id, labels in sorted(masks.items())}


def paint(labels: Labels, value: int, annotation: Annotation, image: Instances, where: str) -> None:
    """Give the pixels of one annotation a value in `labels`, H x W in Fortran's order as COCO's runs are.

    Raises `DataError` if the annotation is not what COCO's format allows, `PackageError` without pycocotools.
    """
    shape, found = (image.height, image.width), annotation.segmentation
    try:
        paint_runs(labels.T.reshape(-1), _runs(found, *shape), value)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where}: annotation {annotation.number}: expected polygons or a run-length mask of {shape[0]} x "
            f"{shape[1]}, found {error}. Use the published instances_*.json, or mend the annotation."
        ) from error


def _runs(found: Any, height: int, width: int) -> NDArray[np.int64]:
    """Checked runs of a segmentation, whatever its form."""
    if isinstance(found, tuple):
        return _of_polygons(found, height, width)
    if not isinstance(found, dict) or "counts" not in found or "size" not in found:
        raise ValueError(f"{type(found).__name__} {json.dumps(found, default=str)[:40]}")
    if not isinstance(found["size"], list) or found["size"] != [height, width]:
        raise ValueError(f"a run-length mask of {str(found['size'])[:40]}")
    counts = found["counts"]
    return checked_runs(parse_runs(counts) if isinstance(counts, str) else counts, height, width)


def _of_polygons(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> NDArray[np.int64]:
    far = max(height, width)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon of fewer than 3 points")
        if not np.isfinite(polygon).all() or polygon.min() < -far or polygon.max() > 2 * far:
            raise ValueError(f"a point far outside the image: {polygon.min()} to {polygon.max()}")
    if not polygons:
        return np.array([height * width])
    tools = _pycocotools()
    runs = tools.merge(tools.frPyObjects([polygon.tolist() for polygon in polygons], height, width))
    return checked_runs(parse_runs(runs["counts"]), height, width)


def draw_polygons(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> NDArray[np.bool_]:
    """H x W of polygons x, y, x, y, ... in px, united. Raises `ValueError`, or `PackageError` without pycocotools."""
    return draw_runs(_of_polygons(polygons, height, width), height, width)


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise PackageError(
            "outlines are drawn by the package pycocotools, which is not installed: `pip install 'fssbench[coco]'`."
        ) from error
    return mask
