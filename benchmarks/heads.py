"""Head time per episode: all episodes of a batch at once, against a loop over them one at a time.

    python benchmarks/heads.py [METHOD ...] [--backbone NAME] [--batch B] [--shots K ...] [--size H W] [--out FILE]

Features come from random weights and are made once, outside the clock; only `segment` is timed, on one thread unless
OMP_NUM_THREADS says otherwise.
Processor time is reported on a CPU, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fssbench.conformance import Subject, render
from fssbench.engine.devices import pick_device
from fssbench.method import EpisodeBatch, Features, Method
from fssbench.registry import BUILT_IN, find_method
from fssbench.settings import parse_settings


def episodes(method: Method, batch: int, shots: int, device: torch.device) -> EpisodeBatch:
    """`batch` equal one-way episodes; each image is encoded once."""
    pixels = render(method).mapped(lambda tensor: tensor.to(device))
    query, support, labels = pixels.query, pixels.support, pixels.support_labels
    built = pixels.built(method)
    auxiliary = None
    if built.auxiliary is not None:
        auxiliary = {
            name: value.expand(batch, *value.shape[1:]).contiguous() for name, value in built.auxiliary.items()
        }
    return EpisodeBatch(
        query={name: value.expand(batch, *value.shape[1:]).contiguous() for name, value in built.query.items()},
        support={
            name: value.expand(batch, 1, shots, *value.shape[3:]).contiguous() for name, value in built.support.items()
        },
        size=(batch, 1, shots),
        query_shape=built.query_shape,
        load_support_labels=lambda: labels.expand(batch, 1, shots, *labels.shape[3:]).contiguous(),
        auxiliary=auxiliary,
        load_query_pixels=lambda: query.expand(batch, *query.shape[1:]).contiguous(),
        load_support_pixels=lambda: support.expand(batch, 1, shots, *support.shape[3:]).contiguous(),
    )


def one_of(batch: EpisodeBatch, b: int) -> EpisodeBatch:
    """One episode of a batch."""

    def part(features: Features) -> Features:
        return {name: value[b : b + 1] for name, value in features.items()}

    return EpisodeBatch(
        query=part(batch.query),
        support=part(batch.support),
        size=(1, *batch.size[1:]),
        query_shape=batch.query_shape,
        load_support_labels=lambda: batch.support_labels[b : b + 1],
        auxiliary=None if batch.auxiliary is None else part(batch.auxiliary),
        load_query_pixels=lambda: batch.query_pixels[b : b + 1],
        load_support_pixels=lambda: batch.support_pixels[b : b + 1],
    )


def seconds(work: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """The best of several rounds, after one that does not count."""
    work()
    best = float("inf")
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(rounds):
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return best


@torch.inference_mode()
def measure(
    name: str, settings: list[str], batch: int, shots: int, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Milliseconds of `segment` per episode, batched and in a loop."""
    cls = find_method(name)
    method = Subject(cls, parse_settings(cls.Config, settings)).build().to(device)
    together = episodes(method, batch, shots, device)
    alone = [one_of(together, b) for b in range(batch)]

    def loop() -> list[Tensor]:
        return [method.segment(one) for one in alone]

    batched = seconds(lambda: method.segment(together), device, rounds) / batch
    looped = seconds(loop, device, rounds) / batch
    return {
        "method": name,
        "backbone": method.config.backbone,
        "size": list(method.query_input.size or together.query_shape),
        "shots": shots,
        "batch": batch,
        "batched_ms": round(1e3 * batched, 2),
        "loop_ms": round(1e3 * looped, 2),
        "ratio": round(looped / batched, 2),
        "device": str(device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=sorted(BUILT_IN))
    parser.add_argument("--backbone", help="another one than each paper's")
    parser.add_argument("--size", nargs=2, type=int, help="input size instead of each method's default")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    settings = [f"backbone={options.backbone}"] if options.backbone else []
    settings += [f"size={options.size[0]},{options.size[1]}"] if options.size else []
    device = pick_device(options.device)
    rows = []
    print(f"{'method':9} {'backbone':19} {'size':>9} {'K':>2} {'B':>2} {'batched ms':>11} {'loop ms':>9} {'ratio':>6}")
    for name in options.methods:
        for shots in options.shots:
            row = measure(name, settings, options.batch, shots, device, options.rounds)
            rows.append(row)
            print(
                f"{name:9} {row['backbone']:19} {'x'.join(map(str, row['size'])):>9} {shots:2} {options.batch:2} "
                f"{row['batched_ms']:11.2f} {row['loop_ms']:9.2f} {row['ratio']:6.2f}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
