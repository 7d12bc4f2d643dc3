"""From an image or label as it is to what a network takes: fitted to its size, then normalised on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fssbench.datasets.decode import decode_image
from fssbench.engine.sources import ImageSource
from fssbench.method import VOID, Preprocess


def fit_image(image: Image.Image, how: Preprocess) -> Tensor:
    """An RGB image as 3 x H x W uint8, resized and padded with black."""
    height, width = how.fitted(image.height, image.width)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if how.fit == "pad" and how.size is not None:
        canvas = np.zeros((*how.size, 3), np.uint8)
        canvas[:height, :width] = pixels
        pixels = canvas
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def fit_label(label: NDArray[np.uint8], how: Preprocess) -> Tensor:
    """A label, H x W uint8, resized by nearest as its image is; the padding becomes 255."""
    height, width = how.fitted(*label.shape)
    if (height, width) != label.shape:
        label = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    if how.fit == "pad" and how.size is not None:
        canvas = np.full(how.size, VOID, np.uint8)
        canvas[:height, :width] = label
        label = canvas
    return torch.from_numpy(label.copy())


def normalise(pixels: Tensor, how: Preprocess) -> Tensor:
    """... x 3 x H x W uint8 to float32: (RGB / 255 - mean) / std, on the device that holds the pixels.

    Every step divides truly (a scalar divisor becomes a product on a GPU), so all devices give the same bits.
    """
    scale, mean, std = _constants(how, pixels.device)
    values = pixels.flip(-3) if how.channels == "bgr" else pixels
    return values.to(torch.float32).div_(scale).sub_(mean).div_(std)


def read_pixels(
    source: ImageSource, image: int, how: Preprocess, change: Callable[[Image.Image], Image.Image] = lambda x: x
) -> Tensor:
    """3 x H x W uint8 of one image; `change` sees it between decoding and fitting."""
    return fit_image(change(decode_image(source.image_bytes(image), source.describe(image))), how)


@lru_cache(maxsize=64)
def _constants(how: Preprocess, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255, mean and deviation, in the order of the channels that come out."""
    order = slice(None) if how.channels == "rgb" else slice(None, None, -1)
    with torch.inference_mode(False):  # they outlive the run that makes them
        mean, std = (torch.tensor(v[order], dtype=torch.float32).view(3, 1, 1) for v in (how.mean, how.std))
        return torch.tensor(255.0).to(device), mean.to(device), std.to(device)
