"""labelme's JSON, one file beside each image: polygons, rectangles, circles, masks; points and lines have no area."""

from __future__ import annotations

import base64
import math
from typing import Any

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found, Item
from fssbench.datasets.own.listing import damaged, read_json
from fssbench.datasets.own.pairing import paired
from fssbench.datasets.own.patterns import matches
from fssbench.datasets.own.shapes import Object, Polygons, Shape, Stamp


def read(config: OwnConfig) -> Found:
    """All JSON files that have an image."""
    found, labels = Found(), set[str]()
    pattern = config.annotations or "{image}.json"
    files = list(matches(config.base, pattern, pictures=False))
    for name, image, partners in paired(config, pattern, files, found, "labelme JSON file"):
        objects: list[Object] = []
        size = None
        for path, _ in partners:
            content = read_json(path)
            with damaged(path, "labelme's shapes, imageHeight and imageWidth"):
                size = int(content["imageHeight"]), int(content["imageWidth"])
                objects += [_object(shape) for shape in content["shapes"]]
        labels |= {one.label for one in objects}
        found.items[name] = Item(image, tuple(objects), size)
    found.labels = tuple(sorted(labels))
    return found


def _object(shape: dict[str, Any]) -> Object:
    kind, points = str(shape.get("shape_type") or "polygon"), shape["points"]
    return Object(str(shape["label"]), _drawn(kind, points, shape), kind)


def _drawn(kind: str, points: Any, shape: dict[str, Any]) -> Shape | None:
    if kind == "polygon":
        return Polygons.of([points])
    if kind in ("rectangle", "circle", "mask"):
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return Polygons.rectangle(x0, y0, x1, y1)
        if kind == "circle":  # the centre, and a point of the rim
            radius = math.dist((x0, y0), (x1, y1))
            return Polygons.ellipse(x0, y0, radius, radius)
        return Stamp(base64.b64decode(shape["mask"]), round(x0), round(y0))
    return None
