"""COCO JSON with its own categories, as Roboflow, CVAT, Label Studio, labelme2coco and many scripts write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fssbench.datasets.json_stream import entries
from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found
from fssbench.datasets.own.listing import Listing, damaged
from fssbench.datasets.own.shapes import Object, Polygons, Runs

LISTS = ("images", "annotations", "categories")


def read(config: OwnConfig) -> Found:
    """One or more annotation files; a crowd is an object."""
    listing = Listing(config)
    for path, groups in config.annotation_files("annotations/*.json"):
        content: dict[str, list[Any]] = {name: [] for name in LISTS}
        for key, entry in entries(path, LISTS, "COCO's annotations"):
            content[key].append(entry)
        with damaged(path, "COCO's annotations (images, annotations and categories)"):
            names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            listing.label(names[number] for number in sorted(names, key=lambda n: (str(type(n)), n)))
            objects: dict[Any, list[Object]] = {entry["id"]: [] for entry in content["images"]}
            for entry in content["annotations"]:
                where = f"{path}: annotation {entry.get('id')}"
                with damaged(path, "a category and an image of the file", where):
                    objects[entry["image_id"]].append(_object(names[entry["category_id"]], entry, where))
            for entry in content["images"]:
                size = int(entry["height"]), int(entry["width"])
                listing.add(path, groups, str(entry["file_name"]), objects[entry["id"]], size)
    return listing.done()


def _object(label: str, entry: dict[str, Any], where: str) -> Object:
    found = entry.get("segmentation")
    if isinstance(found, dict):
        size = tuple(found["size"])
        return Object(label, Runs(found["counts"], (int(size[0]), int(size[1]))))
    if found and not isinstance(found[0], list):
        found = [found]
    return Object(label, Polygons.of(found or []), "outline of fewer than 3 points" if found else "box")


def is_coco(path: Path, start: str) -> bool:
    """Whether a JSON file that begins with `start` looks like COCO's."""
    return '"images"' in start and '"annotations"' in start and ('"categories"' in start or '"file_name"' in start)
