"""Supervisely's project download: meta.json, and <data set>/img/<image> with <data set>/ann/<image>.json."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found, Item
from fssbench.datasets.own.listing import damaged, read_json
from fssbench.datasets.own.pairing import paired
from fssbench.datasets.own.patterns import matches
from fssbench.datasets.own.shapes import Object, Polygons, Stamp

_LARGEST = 100_000_000  # bytes of one bitmap, unpacked


def read(config: OwnConfig) -> Found:
    """All data sets of a project; class names from meta.json."""
    meta = config.base / "meta.json"
    with damaged(meta, "Supervisely's classes"):
        found = Found(labels=tuple(str(entry["title"]) for entry in read_json(meta)["classes"]))
    pattern = config.annotations or "{dataset}/ann/{image}.json"
    files = list(matches(config.base, pattern, pictures=False))
    for name, image, partners in paired(config, pattern, files, found, "Supervisely annotation"):
        objects: list[Object] = []
        size = None
        for path, _ in partners:
            content = read_json(path)
            with damaged(path, "Supervisely's objects and size"):
                size = int(content["size"]["height"]), int(content["size"]["width"])
                objects += [_object(entry) for entry in content["objects"]]
        found.items[name] = Item(image, tuple(objects), size)
    return found


def _object(entry: dict[str, Any]) -> Object:
    label, kind = str(entry["classTitle"]), str(entry["geometryType"])
    if kind == "bitmap":
        packed, (x, y) = base64.b64decode(entry["bitmap"]["data"]), entry["bitmap"]["origin"]
        return Object(label, Stamp(zlib.decompressobj().decompress(packed, _LARGEST), int(x), int(y)))
    if kind == "polygon":
        points = entry["points"]
        shape = Polygons.of([points["exterior"]], points["interior"])
        return Object(label, shape, "outline of fewer than 3 points")
    return Object(label, None, kind)
