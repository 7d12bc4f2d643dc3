"""Which images of a data set are one picture under several names: they must never meet in an episode."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from PIL import Image

from fssbench.banks.scan import MaskFacts
from fssbench.datasets.base import Dataset
from fssbench.datasets.decode import decode_image
from fssbench.errors import DataError


def same_pictures(dataset: Dataset, facts: Mapping[str, MaskFacts]) -> list[frozenset[str]]:
    """Groups of two or more images that show the same pixels.

    Pictures are compared where masks are equal, which copies have and others hardly ever; so no more files are read
    than need be. Copies with different masks are found by the data set itself, if it looks (`Dataset.same_files`).
    """
    by_masks: dict[object, list[str]] = defaultdict(list)
    for image_id, found in facts.items():
        if found.areas:
            by_masks[found.height, found.width, found.masks].append(image_id)
    groups = [set(group) for group in dataset.same_files() if len(group) > 1]
    for alike in by_masks.values():
        by_pixels: dict[str, set[str]] = defaultdict(set)
        for image_id in alike if len(alike) > 1 else ():
            by_pixels[_pixels(dataset, image_id)].add(image_id)
        groups += [same for pixels, same in by_pixels.items() if pixels and len(same) > 1]
    return [frozenset(group & facts.keys()) for group in _joined(groups) if len(group & facts.keys()) > 1]


def copies(dataset: Dataset, facts: Mapping[str, MaskFacts]) -> dict[int, frozenset[int]]:
    """`Pool.same`: each image that has copies -> it and them; images are numbered in the order of `facts`."""
    number = {image_id: i for i, image_id in enumerate(facts)}
    groups = (frozenset(number[image_id] for image_id in same) for same in same_pictures(dataset, facts))
    return {image: same for same in groups for image in same}


def _pixels(dataset: Dataset, image_id: str) -> str:
    """`pixel_hash` of an image; empty if it is not there, as for an index."""
    try:
        return pixel_hash(decode_image(dataset.image_bytes(image_id), image_id))
    except DataError:
        return ""


def pixel_hash(picture: Image.Image) -> str:
    """Hex SHA-256 of what a picture shows."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def _joined(groups: Iterable[set[str]]) -> list[set[str]]:
    """Groups that share a member as one."""
    home: dict[str, set[str]] = {}
    for group in groups:
        joined = group.union(*(home[member] for member in group if member in home))
        home.update(dict.fromkeys(joined, joined))
    return list({id(group): group for group in home.values()}.values())
