"""Files of data sets on disk: pictures of noise, masks, VOC's and COCO's layouts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """H x W x 3: a picture that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def photo(path: Path, height: int = 24, width: int = 32) -> Path:
    """A picture that no file of another name shows."""
    return save(path, noise(zlib.crc32(path.name.encode()), height, width))


def save(path: Path, pixels: np.ndarray, palette: Sequence[int] = ()) -> Path:
    """An image file of these pixels, its folder made; with a palette they are indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putpalette(palette)
    image.save(path)
    return path


def write(path: Path, content: object) -> Path:
    """A text file, or one of JSON, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_voc(root: Path, images: Mapping[str, Sequence[int]], lists: str = "val") -> Path:
    """A small PASCAL VOC. Each class is a rectangle of 12 x 16 px in a 48 x 64 image with a void border."""
    voc = root / "VOCdevkit" / "VOC2012"
    for number, (image_id, classes) in enumerate(images.items()):
        labels = np.zeros((48, 64), dtype=np.uint8)
        labels[:2] = 255
        for place, class_id in enumerate(classes):
            top, left = 4 + 14 * (place // 3), 2 + 20 * (place % 3)
            labels[top : top + 12, left : left + 16] = class_id
        save(voc / "JPEGImages" / f"{image_id}.jpg", noise(number, 48, 64))
        colours = [v for i in range(256) for v in (255 - i, i, i // 2)]
        save(voc / "SegmentationClassAug" / f"{image_id}.png", labels, colours)
    write(voc / "ImageSets" / "Segmentation" / f"{lists}.txt", "".join(f"{i}\n" for i in images))
    return root


def entry(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    """An annotation as COCO's JSON has it."""
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "segmentation": segmentation}


def square(left: int, top: int, side: int) -> list[list[int]]:
    """COCO's polygon of a square."""
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def write_coco(
    root: Path,
    annotations: Sequence[dict[str, Any]],
    numbers: Sequence[int] = (3, 2, 1),
    name: str = "val2014",
    size: tuple[int, int] = (20, 30),
) -> Path:
    """A small COCO of images by these numbers, of one height and width, in this order."""
    files = {number: f"COCO_{name}_{number:012}.jpg" for number in numbers}
    for number, file in files.items():
        save(root / name / file, noise(number, *size))
    listed = [{"id": n, "file_name": file, "height": size[0], "width": size[1]} for n, file in files.items()]
    content = {"images": listed, "annotations": annotations, "categories": []}
    write(root / "annotations" / f"instances_{name}.json", content)
    return root
