"""Head time per episode: of a batch against a loop over its episodes, or of this tree against an older revision.

    python benchmarks/heads.py [METHOD ...] [--against REV] [--backbone NAME] [--batch B] [--shots K ...]
                               [--size H W] [--rounds R] [--set FIELD=VALUE ...] [--out FILE]

Features come from random weights and are made once, outside the clock; only `segment` is timed, on one thread unless
OMP_NUM_THREADS says otherwise. Objects cover what they do in PASCAL VOC. Processor time is compared on a CPU, so that
other work on the machine does not count. With `--against` both revisions live in one process, have the same weights
and pixels, and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fssbench.conformance import Subject
from fssbench.engine.devices import numerics, pick_device
from fssbench.engine.memory import kept_memory
from fssbench.method import OBJECT, EpisodeBatch, Method
from fssbench.registry import BUILT_IN, find_method
from fssbench.scenes import Pixels, render
from fssbench.settings import parse_settings

Builder = Callable[[str, list[str]], Method]  # from a name and settings

# Share of the image that an object covers: the 10, 30, 50, 70 and 90 % quantiles of the augmented VOC 2012's masks.
SHARES = (0.13, 0.01, 0.44, 0.05, 0.25)


def with_objects(pixels: Pixels) -> Pixels:
    """The episodes with centred rectangles of realistic sizes as the supports' objects."""
    labels = torch.zeros_like(pixels.support_labels)
    height, width = labels.shape[-2:]
    for index, label in enumerate(labels.flatten(0, 2)):
        side = SHARES[index % len(SHARES)] ** 0.5
        rows, columns = int(height * (1 - side) / 2), int(width * (1 - side) / 2)
        label[rows : height - rows, columns : width - columns] = OBJECT
    return Pixels(pixels.query, pixels.support, labels, pixels.query_labels, pixels.auxiliary)


def repeated(built: EpisodeBatch, pixels: Pixels, batch: int) -> EpisodeBatch:
    """One built episode as `batch` episodes, each with the shots in another order, in memory of their own."""

    def turned(value: Tensor) -> Tensor:
        return torch.cat([value.roll(b, 2) for b in range(batch)])

    def copied(value: Tensor) -> Tensor:
        return value.expand(batch, *value.shape[1:]).contiguous()

    return EpisodeBatch(
        query={name: copied(value) for name, value in built.query.items()},
        support={name: turned(value) for name, value in built.support.items()},
        size=(batch, *built.size[1:]),
        query_shape=built.query_shape,
        load_support_labels=lambda: turned(pixels.support_labels),
        auxiliary=None if built.auxiliary is None else {name: copied(value) for name, value in built.auxiliary.items()},
        load_query_pixels=lambda: copied(pixels.query),
        load_support_pixels=lambda: turned(pixels.support),
    )


def timed(works: list[Callable[[], Tensor]], device: torch.device, rounds: int, batch: int) -> list[dict[str, float]]:
    """Median milliseconds of processor and wall of each for one of `batch` episodes; they take turns.

    `ratio` is the median over the rounds of the first one's processor seconds (wall on a GPU) over its own.
    """
    clocks = time.process_time, time.perf_counter
    seconds: list[list[tuple[float, ...]]] = [[] for _ in works]
    for _ in range(rounds):
        for place, work in enumerate(works):
            start = [clock() for clock in clocks]
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[place].append(tuple(clock() - since for clock, since in zip(clocks, start, strict=True)))
    ours = 0 if device.type == "cpu" else 1
    return [
        {
            "processor_ms": round(1e3 * statistics.median(processor for processor, _ in own) / batch, 2),
            "wall_ms": round(1e3 * statistics.median(wall for _, wall in own) / batch, 2),
            "ratio": round(statistics.median(a[ours] / b[ours] for a, b in zip(seconds[0], own, strict=True)), 2),
        }
        for own in seconds
    ]


def memory(work: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, int]:
    """What `work` returns, and the most MB it had in use beyond those before; -1 where that cannot be read."""
    with kept_memory():
        pass  # on its way out it hands all free memory back
    before = _in_use(device)
    result = work()
    return result, round(_in_use(device, peak=True) - before)


def _in_use(device: torch.device, peak: bool = False) -> float:
    """MB resident, or on a GPU allocated; `peak`: the most since the last call without it."""
    if device.type == "cuda":
        if peak:
            return torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return -peak
    if not peak:
        clear.write_text("5")  # forget the peak (proc(5))
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:" if peak else "VmRSS:"))
    return int(line.split()[1]) / 1024


@contextlib.contextmanager
def revision(name: str) -> Iterator[Builder]:
    """What builds methods of another revision of the repository, with that one's fssbench, in this process."""
    packages = {"fssbench", "methods"}

    def ours() -> dict[str, Any]:
        return {module: sys.modules.pop(module) for module in [*sys.modules] if module.partition(".")[0] in packages}

    with tempfile.TemporaryDirectory() as folder:
        root = Path(__file__).parents[1]
        packed = subprocess.run(["git", "archive", name, *sorted(packages)], cwd=root, check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        theirs: dict[str, Any] = {}

        def build(method: str, settings: list[str]) -> Method:
            kept = ours()
            sys.modules.update(theirs)
            sys.path.insert(0, folder)
            try:
                conformance = importlib.import_module("fssbench.conformance")
                cls = importlib.import_module("fssbench.registry").find_method(method)
                config = importlib.import_module("fssbench.settings").parse_settings(cls.Config, settings)
                built: Method = conformance.Subject(cls, config).build()
                return built
            finally:
                sys.path.remove(folder)
                theirs.update(ours())
                sys.modules.update(kept)

        yield build


def here(name: str, settings: list[str]) -> Method:
    """A method of this tree."""
    cls = find_method(name)
    return Subject(cls, parse_settings(cls.Config, settings)).build()


def measure(
    name: str, settings: list[str], batch: int, shots: int, device: torch.device, rounds: int, old: Builder | None
) -> dict[str, Any]:
    """Milliseconds an episode, first and second; the deviation is relative to the first one's largest logit.

    First and second are the revision and this tree, or this tree in a loop over episodes and in one batch.
    """
    method = here(name, settings).to(device)
    pixels = with_objects(render(method, k=shots)).mapped(lambda tensor: tensor.to(device))
    with torch.inference_mode():
        together = repeated(pixels.built(method), pixels, batch)
        works = [lambda: torch.cat([method.segment(together.select(slice(b, b + 1))) for b in range(batch)])]
        if old is not None:
            other = old(name, settings).to(device)
            other.load_state_dict(method.state_dict())
            theirs = repeated(pixels.built(other), pixels, batch)
            works = [lambda: other.segment(theirs)]
        works.append(lambda: method.segment(together))
        (first, before), (second, after) = (memory(work, device) for work in works)
    with numerics(device, "fp32"):
        figures = timed(works, device, rounds, batch)
    return {
        "method": name,
        "backbone": method.config.backbone,
        "size": list(method.query_input.size or together.query_shape),
        "shots": shots,
        "batch": batch,
        "device": str(device),
        "deviation": float((first - second).abs().max() / first.abs().max()),
        "ratio": figures[1].pop("ratio"),
        "first": figures[0] | {"memory_mb": before},
        "second": figures[1] | {"memory_mb": after},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=sorted(BUILT_IN))
    parser.add_argument("--against", metavar="REV", help="an older revision to compare with, as git names it")
    parser.add_argument("--backbone", help="another one than each paper's")
    parser.add_argument("--size", nargs=2, type=int, help="input size instead of each method's default")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="other options of the methods")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    settings = [f"backbone={options.backbone}"] if options.backbone else []
    settings += [f"size={options.size[0]},{options.size[1]}"] if options.size else []
    settings += options.set
    device = pick_device(options.device)
    sides = [options.against, "here"] if options.against else ["loop", "batch"]
    rows = []
    print("milliseconds of one episode, MB of one call")
    print(
        f"{'method':9} {'size':>9} {'K':>2} {'B':>2} " + " ".join(f"{side[:9]:>9} {'MB':>6}" for side in sides), end=""
    )
    print(f" {'ratio':>6} deviation")
    with revision(options.against) if options.against else contextlib.nullcontext() as old:
        for name in options.methods:
            for shots in options.shots:
                row = measure(name, settings, options.batch, shots, device, options.rounds, old)
                rows.append(row | {"against": options.against})
                clock = "processor_ms" if device.type == "cpu" else "wall_ms"
                parts = [f"{row[side][clock]:9.1f} {row[side]['memory_mb']:6.0f}" for side in ("first", "second")]
                print(
                    f"{name:9} {'x'.join(map(str, row['size'])):>9} {shots:2} {options.batch:2} {' '.join(parts)} "
                    f"{row['ratio']:6.2f} {row['deviation']:.1e}",
                    flush=True,
                )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
