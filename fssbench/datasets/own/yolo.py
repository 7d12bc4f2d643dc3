"""Ultralytics YOLO segmentation: labels/<image>.txt, a line an object: class number, then x y in parts of the size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found, Item
from fssbench.datasets.own.listing import damaged
from fssbench.datasets.own.pairing import paired
from fssbench.datasets.own.patterns import matches
from fssbench.datasets.own.shapes import Object, Polygons
from fssbench.datasets.reading import read_text
from fssbench.errors import DataError

ABSENT = "an image without a label file, which in this format means: no object"


def read(config: OwnConfig) -> Found:
    """Images and text files by their names; class names from data.yaml."""
    names, found = class_names(config.base / "data.yaml"), Found()
    pattern = config.annotations or "labels/{image}.txt"
    files = list(matches(config.base, pattern, pictures=False))
    for name, image, partners in paired(config, pattern, files, found, "YOLO label file"):
        if not partners:
            found.remark(ABSENT, name)
        found.items[name] = Item(image, tuple(o for path, _ in partners for o in _objects(path, names)))
    found.bare.clear()
    found.labels = tuple(names.values())
    return found


def class_names(path: Path) -> dict[int, str]:
    """The classes of a data.yaml by number. Raises `DataError` if it has none."""
    try:
        given: Any = yaml.safe_load(read_text(path, "YOLO's data.yaml"))["names"]
        pairs = given.items() if isinstance(given, dict) else enumerate(given)
        return {int(number): str(name) for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected YOLO's data.yaml with `names`, found none that can be read.") from error


def _objects(path: Path, names: dict[int, str]) -> list[Object]:
    objects = []
    for number, line in enumerate(read_text(path, "YOLO's labels").splitlines(), start=1):
        numbers = line.split()
        if not numbers:
            continue
        with damaged(path, f"class number 0 to {len(names) - 1} and x y ..., from 0 to 1", f"{path}, line {number}"):
            label, points = names[int(float(numbers[0]))], [float(n) for n in numbers[1:]]
            box = len(points) in (4, 5)  # also with a confidence
            objects.append(Object(label, None if box else Polygons.of([points], normalised=True)))
    return objects
