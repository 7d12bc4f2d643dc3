"""COCO's instances JSON: polygons, and run-length encodings for crowds, to label maps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.coco_classes import CLASS_IDS
from fssbench.datasets.reading import read_file
from fssbench.errors import DataError


@dataclass(frozen=True)
class Annotation:
    """One object, or one crowd region."""

    number: int  # COCO's id
    class_id: int  # 1..80
    crowd: bool
    segmentation: Any  # polygons [[x, y, x, y, ...], ...], or {"size": [h, w], "counts": [...] or text}


@dataclass
class Instances:
    """An image and what is annotated in it, in the file's order."""

    number: int  # COCO's id
    file_name: str
    height: int
    width: int
    annotations: list[Annotation] = field(default_factory=list)


def load_instances(path: Path) -> dict[str, Instances]:
    """Image name without suffix -> its instances, by ascending image id; images without annotation are left out.

    Raises `DataError` for a file that is absent, no JSON, or not of COCO's instances.
    """
    try:
        content = json.loads(read_file(path, "COCO's instances"))
        images = {int(entry["id"]): entry for entry in content["images"]}
        found: dict[int, Instances] = {}
        for entry in content["annotations"]:
            image = images[int(entry["image_id"])]
            if image["id"] not in found:
                size = int(image["height"]), int(image["width"])
                found[image["id"]] = Instances(int(image["id"]), _plain(image["file_name"]), *size)
            found[image["id"]].annotations.append(_annotation(entry))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: expected COCO's instances as JSON, found damage ({error}). Copy it again.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected COCO's instances (images, annotations with image_id, category_id and segmentation), "
            f"found an entry without or with a foreign {error}. Use the published instances_*.json."
        ) from error
    return {Path(found[number].file_name).stem: found[number] for number in sorted(found)}


def draw_labels(image: Instances, where: str) -> NDArray[np.uint8]:
    """H x W class ids: crowds first, then single objects in the file's order, the later over the earlier.

    Raises `DataError` if pycocotools is not installed or an annotation is not what COCO's format allows.
    """
    labels = np.zeros((image.height, image.width), dtype=np.uint8)
    for annotation in sorted(image.annotations, key=lambda a: not a.crowd):
        labels[_decode(annotation, image, where)] = annotation.class_id
    return labels


def _annotation(entry: dict[str, Any]) -> Annotation:
    class_id = CLASS_IDS[int(entry["category_id"])]
    return Annotation(int(entry.get("id", 0)), class_id, bool(entry.get("iscrowd", 0)), entry["segmentation"])


def _plain(name: str) -> str:
    """An image's file name, which must not lead out of its folder."""
    if PurePosixPath(name).name != name or "\\" in name:
        raise ValueError(f"file name {name!r}")
    return name


def _decode(annotation: Annotation, image: Instances, where: str) -> NDArray[np.bool_]:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise DataError(
            "COCO's masks need the package pycocotools, which is not installed: `pip install 'fssbench[coco]'`."
        ) from error
    shape = image.height, image.width
    segmentation = _checked(annotation, shape, where)
    if isinstance(segmentation, list):
        encoded = coco.merge(coco.frPyObjects(segmentation, *shape)) if segmentation else None
    elif isinstance(segmentation["counts"], list):
        encoded = coco.frPyObjects(segmentation, *shape)
    else:
        encoded = segmentation
    if encoded is None:
        return np.zeros(shape, dtype=bool)
    return np.asarray(coco.decode(encoded), dtype=bool)


def _checked(annotation: Annotation, shape: tuple[int, int], where: str) -> Any:
    """The segmentation, if pycocotools (which is C code, and trusting) can decode it."""
    found = annotation.segmentation
    if isinstance(found, list):
        if all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in found):
            return found
        problem = "a polygon of fewer than 3 points"
    elif not isinstance(found, dict) or "counts" not in found or "size" not in found:
        problem = f"{type(found).__name__} {str(found)[:40]}"
    elif tuple(found["size"]) != shape:
        problem = f"a run-length mask of {found['size'][0]} x {found['size'][1]}"
    elif isinstance(found["counts"], list) and sum(found["counts"]) != shape[0] * shape[1]:
        problem = f"runs of {sum(found['counts'])} px together"
    else:
        return found
    raise DataError(
        f"{where}: annotation {annotation.number}: expected polygons or a run-length mask of {shape[0]} x {shape[1]}, "
        f"found {problem}. Use the published instances_*.json."
    )
