"""From a bank's bytes to what a network takes: preprocessed pixels and support labels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fssbench.datasets.decode import decode_image
from fssbench.method import OBJECT, OTHER_WAY, VOID, Preprocess

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank


def prepare_image(image: Image.Image, how: Preprocess) -> NDArray[np.float32]:
    """An RGB image as 3 x H x W float32, resized, padded and normalised."""
    height, width = how.fitted(image.height, image.width)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if how.fit == "pad" and how.size is not None:
        canvas = np.zeros((*how.size, 3), np.uint8)
        canvas[:height, :width] = pixels
        pixels = canvas
    tables, order = _normalised(how.mean, how.std), (0, 1, 2) if how.channels == "rgb" else (2, 1, 0)
    return np.stack([tables[channel].take(pixels[..., channel]) for channel in order])


@lru_cache
def _normalised(mean: tuple[float, float, float], std: tuple[float, float, float]) -> NDArray[np.float32]:
    """3 x 256: what each value of a byte becomes in each channel. Looking up is faster than computing."""
    values = np.arange(256, dtype=np.float32)[:, None] / 255
    return np.ascontiguousarray(((values - np.array(mean, np.float32)) / np.array(std, np.float32)).T)


def prepare_label(label: NDArray[np.uint8], how: Preprocess) -> NDArray[np.uint8]:
    """A label map resized by nearest as its image is; the padding becomes 255."""
    height, width = how.fitted(*label.shape)
    if (height, width) != label.shape:
        label = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    if how.fit == "pad" and how.size is not None:
        canvas = np.full(how.size, VOID, np.uint8)
        canvas[:height, :width] = label
        return canvas
    return label


def support_codes(label_map: NDArray[np.uint8], class_id: int, others: Iterable[int] = ()) -> NDArray[np.uint8]:
    """What each pixel is to one way: BACKGROUND, OBJECT, OTHER_WAY or VOID (see `fssbench.method`)."""
    codes = np.where(label_map == VOID, np.uint8(VOID), np.uint8(0))
    codes[label_map == class_id] = OBJECT
    for other in others:
        codes[label_map == other] = OTHER_WAY
    return codes


def query_truth(label_map: NDArray[np.uint8], classes: Sequence[int]) -> NDArray[np.uint8]:
    """0 background, n for the n-th way's class (from 1), 255 void."""
    truth = np.where(label_map == VOID, np.uint8(VOID), np.uint8(0))
    for way, class_id in enumerate(classes, 1):
        truth[label_map == class_id] = way
    return truth


class PixelLoader:
    """Decodes and preprocesses images on threads, ahead of the time they are asked for.

    Pillow releases the interpreter lock while it decodes and resizes, so threads suffice and nothing is copied between
    processes. What comes out does not depend on the number of workers.
    """

    def __init__(self, bank: Bank, workers: int) -> None:
        self._bank = bank
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode")
        self._ahead: OrderedDict[tuple[int, Preprocess], Future[Tensor]] = OrderedDict()

    def prefetch(self, wanted: Iterable[tuple[int, Preprocess]]) -> None:
        """Begin to load images that will be asked for soon."""
        for key in wanted:
            if key not in self._ahead:
                self._ahead[key] = self._pool.submit(self._load, *key)

    def get(self, image: int, how: Preprocess) -> Tensor:
        """3 x H x W float32 of one image; forgotten afterwards."""
        waiting = self._ahead.pop((image, how), None)
        return waiting.result() if waiting is not None else self._load(image, how)

    def forget(self) -> None:
        """Drop what was prefetched and not asked for."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, image: int, how: Preprocess) -> Tensor:
        name = f"image {self._bank.image_ids[image]} of {self._bank.path}"
        return torch.from_numpy(prepare_image(decode_image(self._bank.image_bytes(image), name), how))
