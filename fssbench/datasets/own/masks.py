"""Mask files: one label map an image, or pictures of one class or one object, white on black."""

from __future__ import annotations

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found, Item
from fssbench.datasets.own.pairing import paired
from fssbench.datasets.own.patterns import matches
from fssbench.datasets.own.shapes import MaskFile, Object
from fssbench.errors import DataError


def read_label_maps(config: OwnConfig) -> Found:
    """Label maps of values or colours."""
    found = Found(labels=tuple(config.classes))
    for name, image, masks in paired(config, config.mask_pattern, config.mask_files(), found, "mask"):
        if len(masks) > 1:
            raise DataError(
                f"expected one label map of {name}, found {' and '.join(str(path) for path, _ in masks)}. For one file "
                'a class or object say format = "binary" and masks = "...{image}_{class}..."'
            )
        found.items[name] = Item(image, label_map=masks[0][0] if masks else None)
    return found


def read_binary(config: OwnConfig) -> Found:
    """One picture a class or object; without `{class}` in the pattern all are of the one class."""
    found = Found(labels=tuple(config.classes))
    if len(config.classes) > 1 and "{class}" not in config.mask_pattern:
        raise DataError(
            f"{config.path}: expected `{{class}}` in masks = {config.masks!r}, as there are {len(config.classes)} "
            "classes: black and white masks say no more than one."
        )
    only = next(iter(config.classes))
    if "{class}" in config.mask_pattern:
        for path, groups in matches(config.base, config.mask_pattern):
            if groups["class"] not in config.classes:
                found.remark(f"a mask of {groups['class']!r}, which is no class of dataset.toml: left out", path.name)
    for name, image, masks in paired(config, config.mask_pattern, config.mask_files(), found, "mask"):
        files = ((groups.get("class", only), MaskFile(path, config.threshold)) for path, groups in masks)
        found.items[name] = Item(image, tuple(Object(label, shape) for label, shape in files))
    return found
