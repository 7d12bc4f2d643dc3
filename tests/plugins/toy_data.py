"""A tiny data set for tests: coloured rectangles on noise, 4 classes in 2 folds, images of several sizes."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.banks.generate import Request, generate
from fssbench.datasets.base import Dataset, Mask
from fssbench.errors import DataError
from fssbench.protocols import find_protocol


class ToyDataset(Dataset):
    """Images t00.. with one or two of 4 classes; pixels of value 255 around the objects."""

    name = "toy"
    class_names = {1: "red", 2: "green", 3: "blue", 4: "grey"}
    folds = ((1, 2), (3, 4))
    pool = "all"

    def __init__(self, images: int = 32) -> None:
        self._ids = [f"t{i:02d}" for i in range(images)]

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return self._draw(image_id)[0]

    def mask(self, image_id: str) -> Mask:
        return Mask(self._draw(image_id)[1])

    def _draw(self, image_id: str) -> tuple[bytes, bytes]:
        number = int(image_id[1:])
        rng = np.random.default_rng(number)
        height, width = ((40, 48), (48, 36))[number % 2]
        pixels = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
        label = np.zeros((height, width), np.uint8)
        for k in range(2):
            class_id = (number + k * (1 + number % 3)) % 4 + 1
            top, left = rng.integers(2, height // 2), rng.integers(2, width // 2)
            h, w = rng.integers(10, 16, 2)
            label[top - 1 : top + h + 1, left - 1 : left + w + 1] = 255
            label[top : top + h, left : left + w] = class_id
            pixels[top : top + h, left : left + w] = rng.integers(0, 255, 3) * 0.3 + np.array(COLOURS[class_id]) * 0.7
        return _png(pixels), _png(label)


class SlowDataset(ToyDataset):
    """Takes 50 ms for every image file."""

    def image_bytes(self, image_id: str) -> bytes:
        time.sleep(0.05)
        return super().image_bytes(image_id)


class BrokenDataset(ToyDataset):
    """Its last image is damaged; in a process that is not the main one `deadly` data kill instead."""

    def __init__(self, images: int = 48, *, deadly: bool = False) -> None:
        super().__init__(images)
        self._deadly = deadly

    def mask(self, image_id: str) -> Mask:
        if image_id != self._ids[-1]:
            return super().mask(image_id)
        if self._deadly and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError(f"{image_id} is damaged")


@contextlib.contextmanager
def few_shapes() -> Iterator[None]:
    """Shapes-5i shows six test images of each class instead of 40: enough for a small bank, and soon rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fssbench.datasets.shapes5i.STREAMS", {"test": (0, 6)})
        yield


COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255), 4: (128, 128, 128)}


def make_bank(
    path: Path,
    episodes: int = 20,
    ways: int = 1,
    shots: int | tuple[int, ...] = 5,
    protocol: Mapping[str, object] = {},
    **more: object,
) -> Path:
    """A bank of the toy data set."""
    changes = {"episodes": episodes, "min_area": 20, **protocol}
    drawn_by = find_protocol("fssbench").but(**changes)
    request = Request(drawn_by, shots if isinstance(shots, tuple) else (shots,), ways, **more)  # type: ignore[arg-type]
    generate(ToyDataset(), request, path)
    return path


def _png(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


class Travels:
    """Counts how often it was packed to go to another process."""

    packed = 0

    def __getstate__(self) -> dict[str, object]:
        Travels.packed += 1
        return {}
