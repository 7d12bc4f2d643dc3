"""Datumaro's own JSON, which CVAT and Intel's tools export: annotations/<subset>.json, images/<subset>/."""

from __future__ import annotations

from fssbench.datasets.json_stream import entries
from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found
from fssbench.datasets.own.listing import Listing, damaged, read_json
from fssbench.datasets.own.shapes import Object, Polygons, Runs


def read(config: OwnConfig) -> Found:
    """One file a subset; `image.path` names the picture."""
    listing = Listing(config)
    for path, groups in config.annotation_files("annotations/{subset}.json"):
        with damaged(path, "Datumaro's annotations (categories and items)"):
            labels = [str(label["name"]) for label in read_json(path)["categories"]["label"]["labels"]]
            listing.label(labels)
            for _, item in entries(path, ("items",), "Datumaro's annotations"):
                objects = [
                    _object(labels, annotation) for annotation in item["annotations"] if "label_id" in annotation
                ]
                size = tuple(map(int, item["image"]["size"]))
                listing.add(path, groups, str(item["image"]["path"]), objects, (size[0], size[1]))
    return listing.done()


def _object(labels: list[str], annotation: dict[str, object]) -> Object:
    label, kind = labels[int(str(annotation["label_id"]))], str(annotation["type"])
    if kind == "polygon":
        return Object(label, Polygons.of([annotation["points"]]), "outline of fewer than 3 points")
    if kind == "mask":
        runs = annotation["rle"]
        assert isinstance(runs, dict)
        return Object(label, Runs(runs["counts"], (int(runs["size"][0]), int(runs["size"][1]))))
    return Object(label, None, {"bbox": "box"}.get(kind, kind))
