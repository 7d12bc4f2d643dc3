"""Peak memory of each method at 5 shots against the budget for features that it was given. Linux only.

    python benchmarks/memory.py [METHOD ...] [--budgets MB ...] [--episodes N] [--shots K] [--backbone NAME]
                                [--set FIELD=VALUE ...] [--out FILE]

Each (method, budget) is a process of its own, which first builds the method with random weights and encodes one image:
the peak up to there is what libraries, weights and the encoder need. Then it evaluates, on a CPU, episodes of the
rendered data set shapes5i, brought to the method's own input size. What the peak grows by, less the features that the
store held, is to stay below 1 GB. Episodes share their images, so that few are encoded and the head's batches are full.
A larger budget is not tried where nothing had to leave the store.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fssbench.banks.bank import Bank, Episodes, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.registry import open_dataset
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Contender, Settings, evaluate_fold
from fssbench.files import atomic_write_text
from fssbench.method import Method
from fssbench.protocols import find_protocol
from fssbench.registry import BUILT_IN, find_method

MB = 2**20
BEYOND = 1024  # MB that a run may take above the encoder and its features
SIDE = 400  # of images where a method takes them at their own size


@dataclass(frozen=True)
class Peak:
    """What one process held at most, in MB."""

    method: str
    budget: int
    encoder: float  # with libraries and weights, while it encodes one image
    run: float
    features: float  # the most that the store held
    evicted: int  # entries that the store had no room for
    episodes: int
    processor_seconds: float

    @property
    def beyond(self) -> float:
        """What the run took above the encoder and the features in the store."""
        return self.run - self.encoder - self.features


def held_at_most() -> float:
    """The process's largest resident memory since `forget_peak`, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def forget_peak() -> None:
    """The largest resident memory is what there is now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def encoded_once(method: Method) -> None:
    """Encode one image, as the engine does."""
    with numerics(torch.device("cpu"), "fp32"):
        method.encode(torch.zeros(1, 3, *(method.query_input.size or (SIDE, SIDE))))


def sharing(bank: Bank, episodes: int, shot: int) -> Episodes:
    """Episodes of the class with the most images, the first of them each a query whose supports are the next ones."""
    drawn = bank.episodes(0, shot)
    classes, counts = np.unique(drawn.classes[:, 0], return_counts=True)
    class_id = classes[counts.argmax()]
    of_class = drawn.classes[:, 0] == class_id
    images = np.unique(np.concatenate([drawn.query[of_class], drawn.support[of_class].ravel()]))[: episodes + shot]
    query = np.arange(episodes) % len(images)
    support = images[(query[:, None] + np.arange(1, shot + 1)) % len(images)][:, None]
    zeros = np.zeros(episodes, np.int64)
    return Episodes(np.full((episodes, 1), class_id), support, images[query], zeros, np.arange(episodes), support)


def measured(bank: Bank, spec: MethodSpec, budget: int, episodes: int, shot: int) -> Peak:
    """The peaks of this process."""
    method, _ = build_method(spec, 0)
    forget_peak()
    encoded_once(method)
    encoder = held_at_most()
    forget_peak()
    drawn, rows = sharing(bank, episodes, shot), np.arange(episodes)
    contender = Contender(spec.name, method, [shot], lambda *_: rows, lambda *_: None)
    with tempfile.TemporaryDirectory() as spill:
        settings = Settings(torch.device("cpu"), cache_bytes=budget * MB, spill_folder=Path(spill))
        start = time.process_time()
        with numerics(settings.device, "fp32"):
            report = evaluate_fold(bank, 0, drawn, [contender], settings)
        seconds = time.process_time() - start
    if contender.error is not None:
        raise contender.error
    store = report.store.peak_bytes / MB
    return Peak(spec.name, budget, encoder, held_at_most(), store, report.store.evicted, report.episodes, seconds)


def settings_of(name: str, options: argparse.Namespace) -> list[str]:
    """The user's settings; images that a method would take at their own size are brought to one."""
    own = f"size={SIDE},{SIDE}"
    native = name in BUILT_IN and find_method(name).Config.model_fields.get("size")
    return [*options.settings, *([own] if native is not None and native and native.default is None else [])]


def told_by_another_process(bank: Path, name: str, budget: int, options: argparse.Namespace) -> Peak | str:
    """What `measured` gives there, or why not."""
    command = [sys.executable, __file__, name, "--budgets", str(budget), "--bank", str(bank)]
    command += ["--episodes", str(options.episodes), "--shots", str(options.shots)]
    command += ["--backbone", options.backbone] if options.backbone else []
    for setting in settings_of(name, options):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2]
    return Peak(**json.loads(done.stdout.strip().rpartition("\n")[2]))


def usual_methods() -> list[str]:
    """All that run without the weights of foundation models."""
    return sorted(name for name in BUILT_IN if "sam" not in name and name not in ("matcher", "gfsam"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--budgets", type=int, nargs="+", default=[256, 1024], help="MB for features")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--backbone")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bank is not None:  # one measurement, in this process
        spec = MethodSpec(options.methods[0], tuple(options.settings), options.backbone, weights="random")
        with open_bank(options.bank) as bank:
            print(json.dumps(asdict(measured(bank, spec, options.budgets[0], options.episodes, options.shots))))
        return
    peaks: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes5i.h5"
        protocol = find_protocol("fssbench").but(episodes=40)
        generate(open_dataset("shapes5i"), Request(protocol, folds=(0,)), path)
        print("MB          budget  encoder     run  features  beyond")
        for name in options.methods or usual_methods():
            for budget in options.budgets:
                peak = told_by_another_process(path, name, budget, options)
                if isinstance(peak, str):
                    print(f"{name:12}{budget:6}  {peak}", flush=True)
                    break
                peaks.append(asdict(peak) | {"beyond": peak.beyond})
                figures = f"{peak.encoder:9.0f}{peak.run:8.0f}{peak.features:10.0f}{peak.beyond:8.0f}"
                print(f"{name:12}{budget:6}{figures}{'' if peak.beyond < BEYOND else '  TOO MUCH'}", flush=True)
                if options.out:
                    atomic_write_text(options.out, json.dumps(peaks, indent=1) + "\n")
                if not peak.evicted:
                    break


if __name__ == "__main__":
    main()
