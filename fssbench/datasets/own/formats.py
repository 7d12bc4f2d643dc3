"""The formats of own data, one reader each, and what every reader gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.datasets.own.shapes import Object

if TYPE_CHECKING:
    from fssbench.datasets.own.config import OwnConfig

FORMATS: dict[str, str] = {
    "label-map": "fssbench.datasets.own.masks:read_label_maps",
    "binary": "fssbench.datasets.own.masks:read_binary",
    "coco": "fssbench.datasets.own.coco:read",
    "datumaro": "fssbench.datasets.own.datumaro:read",
    "cvat": "fssbench.datasets.own.cvat:read",
    "labelme": "fssbench.datasets.own.labelme:read",
    "yolo": "fssbench.datasets.own.yolo:read",
    "supervisely": "fssbench.datasets.own.supervisely:read",
}


@dataclass(frozen=True)
class Item:
    """An image, and its label map or its objects in the file's order."""

    image: Path
    objects: tuple[Object, ...] = ()
    size: tuple[int, int] | None = None  # H, W that the annotations are for; None: the picture's own
    label_map: Path | None = None


@dataclass
class Found:
    """What a reader found."""

    items: dict[str, Item] = field(default_factory=dict)  # by image id, in order
    labels: tuple[str, ...] = ()  # the classes as the files name them, in their order
    remarks: dict[str, list[str]] = field(default_factory=dict)  # what to know of the files -> which of them
    bare: set[str] = field(default_factory=set)  # images that have no mask or annotation file

    def remark(self, what: str, which: str) -> None:
        """Note something to know."""
        self.remarks.setdefault(what, []).append(which)


def read_items(config: OwnConfig) -> Found:
    """All images of a description. Raises `DataError` for files that are absent or not of the format."""
    module, _, name = FORMATS[config.format].partition(":")
    reader: Callable[[OwnConfig], Found] = getattr(importlib.import_module(module), name)
    return reader(config)
