"""Segmenting a user's own images: supports with masks in, masks out, no bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fssbench.engine.counting import Resolution, labels_at
from fssbench.engine.devices import numerics
from fssbench.engine.inputs import fit_image, fit_label, normalise
from fssbench.engine.supports import Support, read_picture
from fssbench.errors import DataError, MethodError
from fssbench.method import EpisodeBatch, Method, SupportBatch, finite, warn_if_empty


def predict(
    method: Method,
    supports: Sequence[Support],
    queries: Sequence[Path],
    device: torch.device,
    precision: str = "fp32",
) -> Iterator[tuple[Path, Image.Image, NDArray[np.uint8]]]:
    """Yield (path, image, H x W mask of 0 and 1 at the image's own size) for every query.

    Raises `DataError` naming a query that is unreadable.
    """
    method.to(device)
    known = _encoded(method, _loaded(method, supports), device, precision)
    for path in queries:
        image = read_picture(path)
        with numerics(device, precision):  # left before every `yield`: what the caller does is its own affair
            label = _segmented(method, known, image, path, device)
        yield path, image, label


def _loaded(method: Method, supports: Sequence[Support]) -> SupportBatch:
    """The supports at the network's input size, K of them, not yet encoded."""
    how = method.support_input
    pixels = [fit_image(support.image, how) for support in supports]
    if len({tuple(p.shape) for p in pixels}) > 1:
        raise DataError(
            f"{method.info.title} takes images at their own size: expected supports of one size, found several. "
            "Resize them to one size first."
        )
    labels = torch.stack([fit_label(support.codes, how) for support in supports])
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
