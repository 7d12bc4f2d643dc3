"""Time and memory of a training step, and the share of it that is neither forward nor backward pass.

    python benchmarks/training.py [METHOD ...] [--steps N] [--out FILE]

The recipe `lite` on shapes5i, fold 0, without validation; each method in a process of its own, on one thread unless
OMP_NUM_THREADS says otherwise. Processor time, so that other work on the machine counts little; the first quarter of
the steps, in which most images are encoded for the first time, is given apart. The last column is of the later steps:
loading, encoding, clipping, the update, the log.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from fssbench.files import atomic_write_text

METHODS = (
    "panet", "fsil", "ssp", "sgone", "pfenet", "canet", "pmms", "hsnet", "dcama", "fss1000", "oslsm", "pl", "bam",
    "hdmnet", "rpmms",
)  # fmt: skip


def measure(asked: tuple[str, int]) -> dict[str, Any]:
    """One method: seconds a step, the share beside both passes, MiB of the process at its peak."""
    import torch

    from fssbench.training.loop import Run, Told, TrainRequest
    from fssbench.training.updates import Updater

    method, steps = asked
    torch.set_num_threads(1)
    passes, ends, real = [0.0], [time.process_time()], Updater._backward

    def timed(self: Updater, *rest: Any) -> dict[str, float]:
        begun = time.process_time()
        terms = real(self, *rest)
        passes[-1] += time.process_time() - begun
        return terms

    def step(*told: object) -> None:
        ends.append(time.process_time())
        passes.append(0.0)

    Updater._backward = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            method, "shapes5i", 0, Path(folder), recipe="lite", backbone="efficientnet_lite0", steps=steps, validate=0,
            workers=1, save_every=10**6,
        )  # fmt: skip
        Run(request, Told(step=step)).train()
    early = max(2, len(ends) // 4)
    later = (ends[-1] - ends[early]) / (len(ends) - 1 - early)
    return {
        "method": method,
        "first": (ends[early] - ends[1]) / (early - 1),
        "later": later,
        "beside": 1 - sum(passes[early:-1]) / (ends[-1] - ends[early]),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    print(f"{'method':10} {'s/step, first':>14} {'s/step, later':>14} {'beside passes':>14} {'MiB':>7}")
    for method in options.methods:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            one = pool.apply(measure, ((method, options.steps),))
        found.append(one)
        print(
            f"{method:10} {one['first']:14.2f} {one['later']:14.2f} {one['beside']:14.0%} {one['mib']:7.0f}", flush=True
        )
    if options.out is not None:
        atomic_write_text(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
