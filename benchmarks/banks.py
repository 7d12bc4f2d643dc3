"""How long making, opening, attaching and checking banks takes at COCO's size, and how much memory.

    python benchmarks/banks.py [--images 82081] [--folder DIR] [--workers 1 2] [--out FILE]

A synthetic COCO train2014 in the real layout: so many images of 480 x 640 px, 7 polygons of 30 points in each. The
files are 64 JPEGs of about 30 KB with other quantisation tables, so that no two are the same picture; they were just
written, so reading them is from memory and not from a disk; everything else is done as for COCO's own. PANet's protocol
on it (five seeds, 1000 episodes a fold and seed) uses most of the images.
The commands run one after the other, each for all numbers of workers in turn. One JSON line a command: wall-clock
time, processor time (user and system) and peak memory of the whole tree of processes (proportional set size, so that
shared pages count once), and how many cores others kept busy meanwhile: on a shared machine wall-clock times say
little without it.

    python benchmarks/banks.py --masks voc2012_masks_aug.zip

times the canonical index bank of PASCAL-5i instead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fssbench.datasets.coco_classes import CLASSES

HEIGHT, WIDTH = 480, 640
POLYGONS, POINTS, JPEGS = 7, 30, 64
_TICK = os.sysconf("SC_CLK_TCK")


def write_coco(root: Path, images: int) -> None:
    """A COCO train2014 of so many images."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    (root / "train2014").mkdir()
    originals = [_jpeg(rng) for _ in range(JPEGS)]
    categories = np.array(list(CLASSES))
    with (root / "annotations" / "instances_train2014.json").open("w", encoding="ascii") as file:
        file.write('{"info": {}, "images": [')
        for number in range(1, images + 1):
            name = f"COCO_train2014_{number:012}.jpg"
            (root / "train2014" / name).write_bytes(_variant(originals[number % JPEGS], number // JPEGS))
            entry = {"license": 5, "file_name": name, "height": HEIGHT, "width": WIDTH, "id": number}
            file.write(("," if number > 1 else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for number in range(1, images + 1):
            for place, (polygon, category) in enumerate(
                zip(_polygons(rng), rng.choice(categories, POLYGONS), strict=True)
            ):
                entry = {
                    "segmentation": [polygon], "area": 1000.5, "iscrowd": 0, "image_id": number,
                    "bbox": polygon[:4], "category_id": int(category), "id": POLYGONS * number + place,
                }  # fmt: skip
                file.write(("," if number > 1 or place else "") + json.dumps(entry))
        names = [{"id": number, "name": name} for number, name in CLASSES.items()]
        file.write(f'], "categories": {json.dumps(names)}}}')


def _jpeg(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(0, 256, (HEIGHT // 32, WIDTH // 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


def _variant(jpeg: bytes, number: int) -> bytes:
    """The same coefficients with other steps of the two means, which takes no encoding: up to 255 x 255 pictures."""
    changed = bytearray(jpeg)
    luma = changed.index(b"\xff\xdb") + 5  # marker, length, number of the table
    changed[luma] = 1 + number % 255
    changed[changed.index(b"\xff\xdb", luma) + 5] = 1 + number // 255
    return bytes(changed)


def _polygons(rng: np.random.Generator) -> list[list[float]]:
    """Rough discs of 20 to 120 px radius."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    radius = rng.uniform(20, 120, (POLYGONS, 1)) * rng.uniform(0.7, 1.3, (POLYGONS, POINTS))
    x = np.clip(rng.uniform(80, WIDTH - 80, (POLYGONS, 1)) + radius * np.cos(angle), 0, WIDTH)
    y = np.clip(rng.uniform(80, HEIGHT - 80, (POLYGONS, 1)) + radius * np.sin(angle), 0, HEIGHT)
    found: list[list[float]] = np.stack([x, y], axis=2).reshape(POLYGONS, -1).round(2).tolist()
    return found


def measured(command: Sequence[str]) -> dict[str, float]:
    """Run `fssbench ...` and say what it took. Raises `CalledProcessError` if it fails."""
    start, busy = time.perf_counter(), _busy()
    process = subprocess.Popen([sys.executable, "-m", "fssbench", *command], stdout=subprocess.DEVNULL)
    with _peak_memory(process.pid) as peak:
        _, status, usage = os.wait4(process.pid, 0)
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    if status:
        raise subprocess.CalledProcessError(status, list(command))
    others = (_busy() - busy - cpu) / wall
    figures = {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak[0], "others_cores": max(0.0, others)}
    return {key: round(value, 2) for key, value in figures.items()}


def _busy() -> float:
    """Processor seconds that all processes of the machine have used."""
    user, nice, system = map(int, Path("/proc/stat").read_text(encoding="ascii").split()[1:4])
    return (user + nice + system) / _TICK


@contextlib.contextmanager
def _peak_memory(pid: int) -> Iterator[list[float]]:
    """The largest sum, in MB, of the proportional set sizes of a process and its descendants, looked at 4 times a s."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            peak[0] = max(peak[0], sum(map(_memory, _tree(pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def coco(folder: Path, images: int, workers: Sequence[int]) -> Iterator[dict[str, object]]:
    """What every command takes on a synthetic COCO in `folder`."""
    root, bank, index = folder / "coco", folder / "bank.h5", folder / "bank.index.h5"
    if not root.exists():
        write_coco(root, images)
    made = ["generate-episodes", "coco20i", "--protocol", "panet", "--root", str(root), "--force"]
    for count in workers:
        yield {"what": "generate", "workers": count, **measured([*made, "--out", str(bank), "--workers", str(count)])}
    yield {"what": "inspect", **measured(["inspect", str(bank)]), "bank_mb": round(bank.stat().st_size / 2**20)}
    for count in workers:
        yield {"what": "verify", "workers": count, **measured(["verify", str(bank), "--workers", str(count)])}
    bank.unlink()
    most = str(max(workers))
    yield {
        "what": "generate --index", "workers": int(most),
        **measured([*made, "--index", "--out", str(index), "--workers", most]),
    }  # fmt: skip
    yield {"what": "inspect the index", **measured(["inspect", str(index)])}
    attach = ["attach", str(index), "--root", str(root), "--out", str(bank), "--workers", most]
    yield {"what": "attach", "workers": int(most), **measured(attach)}


def main() -> None:
    """Print one JSON line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=82081, help="images of the synthetic COCO")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes, in this order")
    parser.add_argument("--folder", type=Path, help="where to make it, and keep it (default: a temporary folder)")
    parser.add_argument("--masks", type=Path, help="a zip of the masks of VOC 2012 and SBD, instead of COCO")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, after every command anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.masks:
            command = ["generate-episodes", "pascal5i", "--root", str(options.masks), "--index", "--force"]
            lines = iter([{"what": "PASCAL-5i index", **measured([*command, "--out", str(folder / "voc.h5")])}])
        else:
            lines = coco(folder, options.images, options.workers)
        found = []
        for line in lines:
            print(json.dumps(line), flush=True)
            found.append(line)
            if options.out:
                options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
