"""CVAT's XML, "CVAT for images 1.1": polygons, masks and ellipses; boxes and lines have no mask."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found
from fssbench.datasets.own.listing import Listing, damaged
from fssbench.datasets.own.shapes import Object, Polygons, Runs
from fssbench.errors import DataError

_IMAGES = "images"  # the folder beside annotations.xml in an export with pictures


def read(config: OwnConfig) -> Found:
    """One or more annotations.xml."""
    listing = Listing(config)
    for path, groups in config.annotation_files("annotations.xml"):
        beside = path.parent / _IMAGES
        for image in _elements(path, listing):
            with damaged(path, "an image with name, width and height", f"{path}: image {image.get('name')}"):
                size = int(image.attrib["height"]), int(image.attrib["width"])
                objects = [_object(e) for e in image if "label" in e.attrib]
                listing.add(
                    beside / path.name if beside.is_dir() else path, groups, image.attrib["name"], objects, size
                )
    return listing.done()


def _elements(path: Path, listing: Listing) -> list[ElementTree.Element]:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: expected CVAT's XML, found damage ({error}). Export it again.") from error
    listing.label(name.text or "" for name in root.iterfind("./meta//labels/label/name"))
    return root.findall("image")


def _object(element: ElementTree.Element) -> Object:
    label, of = element.attrib["label"], element.attrib
    if element.tag == "polygon":
        points = [float(n) for point in of["points"].split(";") for n in point.split(",")]
        return Object(label, Polygons.of([points]), "outline of fewer than 3 points")
    if element.tag == "mask":
        box = int(of["left"]), int(of["top"]), int(of["width"]), int(of["height"])
        return Object(label, Runs([int(n) for n in of["rle"].split(",")], box=box))
    if element.tag == "ellipse":
        return Object(label, Polygons.ellipse(*(float(of[key]) for key in ("cx", "cy", "rx", "ry"))))
    return Object(label, None, element.tag)
