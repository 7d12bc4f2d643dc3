"""COCO JSON with its own categories, as Roboflow, CVAT, Label Studio, labelme2coco and many scripts write it."""

from __future__ import annotations

from typing import Any

from fssbench.datasets.json_stream import entries
from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found
from fssbench.datasets.own.listing import Listing, damaged
from fssbench.datasets.own.patterns import filled
from fssbench.datasets.own.shapes import Object, Polygons, Runs
from fssbench.datasets.reading import some
from fssbench.errors import DataError

LISTS = ("images", "annotations", "categories")
STANDARD = "annotations/instances_{split}.json"  # COCO's own layout, and CVAT's
_FOLDERS = ("{split}", "images/{split}", "images")  # where its pictures lie


def read(config: OwnConfig) -> Found:
    """One or more annotation files; a crowd is an object."""
    if not config.annotations:
        config = _standard(config)
    listing = Listing(config)
    for path, groups in config.annotation_files(STANDARD):
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


def _standard(config: OwnConfig) -> OwnConfig:
    """The description with the one annotation file of COCO's own layout. Raises `DataError` if there are several."""
    files = config.annotation_files(STANDARD)
    if len(files) > 1:
        names = some([path.name for path, _ in files], 3)
        raise DataError(
            f"{config.path}: expected one file {STANDARD}, as `annotations` is not said, found {len(files)}: {names}. "
            f'Name one, annotations = "annotations/{files[0][0].name}"; or all, annotations = "{STANDARD}", with '
            'images = "{split}" or where else their pictures are.'
        )
    [(path, groups)] = files
    folders = (filled(folder, groups) for folder in _FOLDERS)
    images = config.images or next((folder for folder in folders if (config.base / folder).is_dir()), "")
    annotations = path.relative_to(config.base).as_posix()
    return config.model_copy(update={"annotations": annotations, "images": filled(images, groups)})


def _object(label: str, entry: dict[str, Any], where: str) -> Object:
    found = entry.get("segmentation")
    if isinstance(found, dict):
        size = tuple(found["size"])
        return Object(label, Runs(found["counts"], (int(size[0]), int(size[1]))))
    if found and not isinstance(found[0], list):
        found = [found]
    return Object(label, Polygons.of(found or []), "outline of fewer than 3 points" if found else "box")
