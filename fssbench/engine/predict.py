"""Segmenting a user's own images: supports with masks in, masks out, no bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fssbench.datasets.base import Mask
from fssbench.datasets.decode import decode_image, decode_mask
from fssbench.engine.counting import Resolution, labels_at
from fssbench.engine.devices import numerics
from fssbench.engine.inputs import prepare_image, prepare_label
from fssbench.errors import DataError, MethodError
from fssbench.method import OBJECT, VOID, Method, build_episodes, finite


@dataclass(frozen=True)
class Support:
    """An image and where the object is on it."""

    image: Path
    mask: Path


def predict(
    method: Method,
    supports: Sequence[Support],
    queries: Sequence[Path],
    device: torch.device,
    precision: str = "fp32",
    class_id: int | None = None,
) -> Iterator[tuple[Path, Image.Image, NDArray[np.uint8]]]:
    """Yield (path, image, H x W mask of 0 and 1 at the image's own size) for every query.

    A support mask is a picture with the object in one value on 0, or a label map of which `class_id` is the object.
    Raises `DataError` naming the file that is unreadable, empty or of another size than its image.
    """
    how = method.support_input
    loaded = [(_image(s.image), _object(s, class_id)) for s in supports]
    for support, (image, mask) in zip(supports, loaded, strict=True):
        if (image.height, image.width) != mask.shape:
            raise DataError(
                f"{support.mask}: expected a mask of the size of {support.image} ({image.height} x {image.width}), "
                f"found {mask.shape[0]} x {mask.shape[1]}"
            )
    pixels = [torch.from_numpy(prepare_image(image, how)) for image, _ in loaded]
    labels = [torch.from_numpy(prepare_label(mask, how).copy()) for _, mask in loaded]
    if len({tuple(p.shape) for p in pixels}) > 1:
        raise DataError(
            f"{method.info.title} takes images at their own size: expected supports of one size, found several. "
            "Resize them to one size first."
        )
    with numerics(device, precision):
        method.to(device)
        for path in queries:
            image = _image(path)
            query = torch.from_numpy(prepare_image(image, method.query_input))[None].to(device)
            batch = build_episodes(
                method, query, torch.stack(pixels)[None, None].to(device), torch.stack(labels)[None, None].to(device)
            )
            logits = method.segment(batch)
            if not finite(logits):
                raise MethodError(f"{method.info.title} gave logits that are not finite for {path}")
            size = image.height, image.width
            label = labels_at(method, logits[:1], 1, size, method.query_input, Resolution())[0]
            yield path, image, label.to("cpu", torch.uint8).numpy()


def _image(path: Path) -> Image.Image:
    return decode_image(_bytes(path), str(path))


def _object(support: Support, class_id: int | None) -> NDArray[np.uint8]:
    """The support's label: OBJECT, 0, and VOID where a label map has 255."""
    values = decode_mask(Mask(_bytes(support.mask)), str(support.mask))
    found = sorted(set(np.unique(values).tolist()) - {0})
    if class_id is None:
        if len(found) != 1:
            raise DataError(
                f"{support.mask}: expected a mask of one object (0 and one other value), found the values "
                f"{[0, *found][:8]}. Say which one by --class-id."
            )
        return np.where(values > 0, np.uint8(OBJECT), np.uint8(0))
    if class_id not in found:
        raise DataError(f"{support.mask}: expected pixels of value {class_id}, found the values {[0, *found][:8]}")
    codes = np.where(values == VOID, np.uint8(VOID), np.uint8(0))
    codes[values == class_id] = OBJECT
    return codes


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}") from error
