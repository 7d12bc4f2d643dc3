"""What the engine costs beyond the work itself, and what a plain test loop costs: ratios within one run.

    python benchmarks/engine.py [--bank BANK] [--folds F ...] [--episodes N] [--backbone NAME ...] [--out FILE]

Without a bank, episodes of the rendered data set shapes5i are drawn first. Prints one line a figure; writes JSON too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fssbench.banks.bank import Bank, Episodes, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.registry import open_dataset
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Contender, Settings, evaluate_fold
from fssbench.engine.inputs import normalise, read_pixels
from fssbench.engine.labels import Labels, SupportKey
from fssbench.engine.sources import BankImages
from fssbench.engine.speed import measure
from fssbench.files import atomic_write_text
from fssbench.method import Method, build_episodes
from fssbench.protocols import find_protocol


def plain_loop(bank: Bank, episodes: Episodes, rows: np.ndarray, method: Method, shot: int) -> float:
    """Seconds of a loop as published ones are: one episode at a time, everything encoded anew, IoU with sets."""
    images = BankImages(bank)
    labels = Labels(images)
    start = time.perf_counter()
    for row in rows.tolist():
        class_id, query = int(episodes.classes[row, 0]), int(episodes.query[row])
        supports = episodes.support[row, 0, :shot].tolist()
        of_query, of_support = method.query_input, method.support_input
        batch = build_episodes(
            method,
            normalise(read_pixels(images, query, of_query)[None], of_query),
            normalise(torch.stack([read_pixels(images, i, of_support) for i in supports])[None, None], of_support),
            torch.stack([labels.get(SupportKey(i, class_id, ()), of_support) for i in supports])[None, None],
        )
        truth = bank.masks.of_class(query, class_id)
        logits = F.interpolate(method.segment(batch), truth.shape, mode="bilinear")
        prediction = logits.argmax(1)[0].numpy()
        predicted = set(np.flatnonzero((prediction == 1) & (truth != 255)).tolist())
        labelled = set(np.flatnonzero(truth == 1).tolist())
        _ = len(predicted & labelled), len(predicted | labelled)
    return time.perf_counter() - start


def budgeted(bank: Bank, fold: int, method: Method, settings: Settings, rows: np.ndarray) -> float:
    """Seconds of an evaluation at 5 shots."""
    contender = Contender("panet", method, [5], lambda fold, shot: rows, lambda fold, shot, taken: None)
    start = time.perf_counter()
    evaluate_fold(bank, fold, bank.episodes(fold, 5), [contender], settings)
    if contender.error is not None:
        raise contender.error
    return time.perf_counter() - start


def figures(bank: Bank, fold: int, backbone: str, weights: str, episodes: int, sample: int) -> dict[str, object]:
    """All figures of one backbone on one fold."""
    method, _ = build_method(MethodSpec("panet", backbone=backbone, weights=weights), fold)
    settings = Settings(torch.device("cpu"), spill_folder=Path(tempfile.gettempdir()))
    got = measure(bank, fold, "panet", method, [1, 5], settings, episodes, sample)
    rows = np.arange(got.episodes)
    some = np.sort(np.random.default_rng(1).permutation(rows)[:sample])
    with numerics(settings.device, "fp32"):
        drawn = bank.episodes(fold, 5)
        plain = {shot: plain_loop(bank, drawn, some, method, shot) * len(rows) / len(some) for shot in (1, 5)}
        tenth = replace(settings, cache_bytes=max(1, got.cache_peak_bytes // 10))
        unlimited, limited = (budgeted(bank, fold, method, s, rows) for s in (settings, tenth))
    return {
        "fold": fold,
        "backbone": backbone,
        "weights": weights,
        "episodes": got.episodes,
        "distinct_images": got.distinct_images,
        "seconds": got.total,
        "phases": got.phases,
        "floor": got.floor,
        "ratio_to_floor": got.ratio,
        "cache_off_over_on": {shot: got.off[shot] / got.on[shot] for shot in got.shots},
        "counts_equal": got.off_counts_equal,
        "plain_loop_over_ours": sum(plain.values()) / got.total,
        "tenth_of_cache_over_unlimited": limited / unlimited,
        "cache_peak_mb": got.cache_peak_bytes / 2**20,
        "peak_memory_mb": got.peak_memory_bytes / 2**20,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--sample", type=int, default=8, help="episodes that the slow loops run, scaled to all")
    parser.add_argument("--backbone", nargs="*", default=["efficientnet_lite0"])
    parser.add_argument("--weights", default="random")
    parser.add_argument("--folds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.bank or Path(folder) / "shapes5i.h5"
        if options.bank is None:
            protocol = find_protocol("fssbench").but(episodes=options.episodes)
            generate(open_dataset("shapes5i"), Request(protocol, folds=tuple(options.folds)), path)
        with open_bank(path) as bank:
            results = [
                figures(bank, fold, name, options.weights, options.episodes, options.sample)
                for name in options.backbone
                for fold in options.folds
            ]
    text = json.dumps(results, indent=1)
    print(text)
    if options.out:
        atomic_write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
