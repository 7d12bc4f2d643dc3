"""How long making, opening and reading banks takes, and how much memory.

    python benchmarks/banks.py [--masks voc2012_masks_aug.zip] [--voc VOCdevkit]

Each measurement runs in a process of its own, so that its peak memory is its own. Images for the streaming figure are
random bytes wrapped as PNG, of 400 KB each, about four times a VOC photograph.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate, make_plan
from fssbench.banks.writer import Stored, write_bank
from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.protocol import FSSBENCH, PANET


class Synthetic(Dataset):
    """`count` images of one fold, every pixel random so that a bank cannot be smaller than the images."""

    name = "synthetic"
    pool = "all"
    class_names = {1: "one", 2: "two"}
    folds = ((1, 2),)

    def __init__(self, count: int) -> None:
        self._ids = [f"{i:06d}" for i in range(count)]

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        pixels = np.random.default_rng(int(image_id)).integers(0, 256, (366, 366, 3), dtype=np.uint8)
        return _png(pixels)

    def mask(self, image_id: str) -> Mask:
        labels = np.zeros((366, 366), dtype=np.uint8)
        labels[:200, :200] = 1 + int(image_id) % 2
        return Mask(_png(labels))


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=0)
    return file.getvalue()


def measured(work: Callable[..., object], *arguments: object) -> dict[str, float]:
    """Wall-clock seconds and peak memory (MB, imports included) of one call in a new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, work, arguments))
    process.start()
    result: dict[str, float] = receiver.recv()
    process.join()
    return result


def _measure(sender: object, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    start, used = time.perf_counter(), time.process_time()
    more = work(*arguments) or {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used, "peak_mb": peak}
    figures = {**times, **more}  # type: ignore[dict-item]
    sender.send({key: round(value, 2) for key, value in figures.items()})  # type: ignore[attr-defined]


def make_index(masks: Path, out: Path) -> None:
    """The canonical PASCAL-5i index: 4 folds x 1000 episodes x 5 shots."""
    generate(Pascal5i(masks), Request(FSSBENCH), out, index=True, force=True)


def make_panet_index(masks: Path, out: Path) -> None:
    """PANet's protocol: 10582 masks, 5 runs of 1000 episodes a fold."""
    generate(Pascal5i(masks, pool="trainaug"), Request(PANET), out, index=True, force=True)


def make_synthetic(count: int, out: Path) -> None:
    """Every image is a query."""
    generate(Synthetic(count), Request(FSSBENCH.but(episodes=count)), out, force=True)


def write_alone(count: int, out: Path) -> dict[str, float]:
    """Only what the writer does: one image again and again, beside a plain copy of as many bytes, fsync included."""
    data = Synthetic(count)
    plan = make_plan(data, Request(FSSBENCH.but(episodes=count)))
    image, mask = data.image_bytes("000000"), data.mask("000000").encoded
    hashed = hashlib.sha256(image).hexdigest()
    start = time.perf_counter()
    write_bank(out, plan, (Stored(image, hashed, (mask,)) for _ in range(count)), force=True)
    write = time.perf_counter() - start
    size = out.stat().st_size / 2**20
    start = time.perf_counter()
    with out.with_suffix(".copy").open("wb") as file:
        for _ in range(count):
            file.write(image + mask)
        os.fsync(file.fileno())
    plain = time.perf_counter() - start
    out.with_suffix(".copy").unlink()
    return {"write_seconds": write, "write_mb_s": size / write, "plain_mb_s": size / plain}


def make_voc(root: Path, out: Path) -> None:
    """A bank with real photographs, those that are there."""
    generate(Pascal5i(root), Request(FSSBENCH, skip_short=True), out, force=True)


def open_and_read(path: Path) -> None:
    """Open with the whole-file hash, then read every image and mask once."""
    with open_bank(path) as bank:
        for i in range(len(bank.image_ids)):
            bank.image_bytes(i)
            bank.layers(i)


def only_open(path: Path) -> None:
    """Open with the whole-file hash."""
    open_bank(path).close()


def main() -> None:
    """Print one JSON line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, help="a zip of the masks of VOC 2012 and SBD")
    parser.add_argument("--voc", type=Path, help="a folder with VOCdevkit")
    parser.add_argument(
        "--images", type=int, default=100, help="images of the streaming figure; also ten times as many"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bank.h5"

        def show(what: str, work: Callable[..., object], *arguments: object) -> None:
            figures = measured(work, *arguments)
            size = {"bank_mb": round(out.stat().st_size / 2**20, 2)}
            print(json.dumps({"what": what, **figures, **size}), flush=True)

        if options.masks:
            show("PASCAL-5i index, 4 x 1000 episodes, 5 shots", make_index, options.masks, out)
            show("PASCAL-5i index by PANet's protocol, 4 x 5 x 1000", make_panet_index, options.masks, out)
        if options.voc:
            show("PASCAL-5i with photographs", make_voc, options.voc, out)
            show("open it", only_open, out)
            show("open it and read every image and mask", open_and_read, out)
        for count in (options.images, 10 * options.images):
            show(f"{count} images of 400 KB", make_synthetic, count, out)
            show("open it", only_open, out)
        show(f"the writer alone, {10 * options.images} images", write_alone, 10 * options.images, out)


if __name__ == "__main__":
    main()
