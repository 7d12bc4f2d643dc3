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
from fssbench.engine.inputs import fit_image, fit_label, normalise
from fssbench.errors import DataError, MethodError
from fssbench.method import OBJECT, VOID, EpisodeBatch, Method, SupportBatch, finite, warn_if_empty


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
    method.to(device)
    known = _encoded(method, _loaded(method, supports, class_id), device, precision)
    for path in queries:
        image = _image(path)
        with numerics(device, precision):  # left before every `yield`: what the caller does is its own affair
            label = _segmented(method, known, image, path, device)
        yield path, image, label


def _loaded(method: Method, supports: Sequence[Support], class_id: int | None) -> SupportBatch:
    """The supports at the network's input size, K of them, not yet encoded."""
    how = method.support_input
    pairs = [(_image(s.image), _object(s, class_id)) for s in supports]
    for support, (image, mask) in zip(supports, pairs, strict=True):
        if (image.height, image.width) != mask.shape:
            raise DataError(
                f"{support.mask}: expected a mask of the size of {support.image} ({image.height} x {image.width}), "
                f"found {mask.shape[0]} x {mask.shape[1]}"
            )
    pixels = [fit_image(image, how) for image, _ in pairs]
    if len({tuple(p.shape) for p in pixels}) > 1:
        raise DataError(
            f"{method.info.title} takes images at their own size: expected supports of one size, found several. "
            "Resize them to one size first."
        )
    labels = torch.stack([fit_label(mask, how) for _, mask in pairs])
    warn_if_empty(labels)
    shown = normalise(torch.stack(pixels), how)
    return SupportBatch({}, labels, lambda: shown)


def _encoded(method: Method, supports: SupportBatch, device: torch.device, precision: str) -> SupportBatch:
    """The same with what `encode_support` gives for features."""
    pixels, labels = supports.pixels.to(device), supports.labels.to(device)
    with numerics(device, precision):
        features = method.encode(pixels) if method.encodes_support else {}
        return SupportBatch(
            method.encode_support(SupportBatch(features, labels, lambda: pixels)), labels, lambda: pixels
        )


def _segmented(
    method: Method, supports: SupportBatch, image: Image.Image, path: Path, device: torch.device
) -> NDArray[np.uint8]:
    how = method.query_input
    pixels = normalise(fit_image(image, how)[None].to(device), how)
    logits = method.segment(
        EpisodeBatch.of(
            (1, 1, len(supports.labels)),
            (pixels.shape[-2], pixels.shape[-1]),
            method.encode(pixels),
            supports.features,
            supports.labels,
            query_pixels=pixels,
            support_pixels=supports.load_pixels,
        )
    )
    if not finite(logits):
        raise MethodError(f"{method.info.title} gave logits that are not finite for {path}")
    label = labels_at(method, logits[:1], 1, (image.height, image.width), how, Resolution())[0]
    return label.to("cpu", torch.uint8).numpy()


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
