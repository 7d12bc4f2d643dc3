"""How long the site of many records takes to build and to open.

    python benchmarks/site.py [--records 1000] [--workers N] [--out FILE]

Records are made up: 20 banks (5 data sets, 2 protocols, 1 and 5 shots), on each 50 settings of the methods whose papers
are known, 4 folds of 20 classes. Prints seconds, CPU seconds and peak memory of the build (intervals and ranks
included), and the seconds from the request to the last paint of the index and of a record's page in Chromium.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import resource
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from fssbench.names import SEPARATOR
from fssbench.protocol import Protocol
from fssbench.protocols import FSSBENCH, PFENET
from fssbench.records import COLUMNS, BankEntry, Environment, MethodEntry, Parameters, Run, WeightsEntry, write_record
from fssbench.reports.board.build import build_site
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.paper import papers
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import rules_of

PIXELS, IMAGES = 200_000, 1500
FOLDS = {fold: [5 * fold + 1 + k for k in range(5)] for fold in range(4)}
DATASETS = ("pascal5i", "coco20i", "fss1000", "shapes5i", "deepglobe")


def drawn(dataset: str, protocol: Protocol, shot: int, episodes: int) -> pd.DataFrame:
    """The rows of a board's episodes, with the sizes of their objects as `fn`."""
    rng = np.random.default_rng([DATASETS.index(dataset), len(protocol.name), shot])
    count = 4 * episodes
    frame = pd.DataFrame(np.zeros((count, len(COLUMNS)), np.int64), columns=COLUMNS)
    frame["fold"], frame["episode"], frame["way"] = np.repeat(range(4), episodes), [*range(episodes)] * 4, 1
    frame["class_id"] = 5 * frame["fold"] + 1 + rng.integers(0, 5, count)
    images = rng.integers(0, IMAGES, (count, 1 + shot))
    frame["query"] = [f"2008_{image:06d}" for image in images[:, 0]]
    frame["supports"] = [SEPARATOR.join(f"2009_{image:06d}" for image in each) for each in images[:, 1:]]
    return frame.assign(fn=rng.integers(2_000, 80_000, count))


def make_records(root: Path, count: int, episodes: int) -> None:
    """`count` records of 4 folds of `episodes` each below `root`, packed loosely: making them is not what is timed."""
    names = sorted(papers())
    boards = [(data, protocol, shot) for data in DATASETS for protocol in (FSSBENCH, PFENET) for shot in (1, 5)]
    rows = [drawn(*board, episodes) for board in boards[:count]]
    for number in range(count):
        dataset, protocol, shot = boards[number % len(boards)]
        setting = number // len(boards)
        frame = rows[number % len(boards)].copy()
        own = np.random.default_rng([number, 1])
        size = frame["fn"]
        frame["tp"] = (size * own.beta(2 + setting % 17 / 8, 2, len(frame))).astype(np.int64)
        frame["fn"] = size - frame["tp"]
        frame["fp"] = own.integers(0, 20_000, len(frame))
        frame["tn"] = PIXELS - frame[["tp", "fn", "fp"]].sum(axis=1)
        method, trained = names[setting % len(names)], setting % 2 == 1
        sha = hashlib.sha256(f"{dataset} {protocol.hash}".encode()).hexdigest()
        name = f"{dataset}/{method}-{number:04d}"
        run = Run(
            id=name, created="2026-01-02T03:04:05+00:00",
            method=MethodEntry(name=method, title=papers()[method].name, config={"size": 417, "number": setting}),
            backbone=("resnet50", "vgg16_bn", "resnet101")[setting % 3], input_size="417x417 squash",
            weights={f: WeightsEntry(kind="checkpoint" if trained else "imagenet", sha256=f"{number:060d}{f:04d}")
                     for f in FOLDS},
            bank=BankEntry(
                fingerprint=sha, dataset=dataset, protocol=protocol.model_dump(mode="json"),
                protocol_hash=protocol.hash, class_names={c: f"class {c}" for each in FOLDS.values() for c in each},
                folds=FOLDS, episodes=dict.fromkeys(FOLDS, episodes),
            ),
            way=1, shot=shot, folds=list(FOLDS), seconds={"encode": 40.0, "head": 9.0},
            environment=Environment(device="cpu (2 threads)", precision="fp32", versions={"fssbench": "0.2.0"}),
            parameters=Parameters(total=26_000_000, trained=2_000_000 if trained else 0),
            summary=summarise(frame, FOLDS, rules_of(protocol.model_dump())),
        )  # fmt: skip
        with mock.patch.object(gzip, "compress", partial(gzip.compress, compresslevel=1)):
            write_record(root / name, run, frame)


def opened(path: Path) -> float:
    """Seconds until a page from disk is loaded, scripts have run, and it is painted."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seconds = time.perf_counter() - start
        browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=1000, help="of each of 4 folds")
    parser.add_argument("--workers", type=int, help="processes that measure (default: one a core)")
    parser.add_argument("--keep", type=Path, help="make the records here, or use those that are here")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.keep or Path(folder) / "results"
        if not root.is_dir():
            make_records(root, asked.records, asked.episodes)
        site = Path(folder) / "site"
        start, before = time.perf_counter(), _cpu()
        pages = build_site(load_results(root), site, workers=asked.workers)
        seconds, cpu = time.perf_counter() - start, _cpu() - before
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        index = site / "index.html"
        print(f"{asked.records} records of {4 * asked.episodes} episodes: {pages} pages, {size / 1e6:.0f} MB")
        print(f"build: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 1024:.0f} MiB at most")
        pages_of = {"index.html": "index.html", "a record": "records/*/index.html", "a pair": "boards/*-pair.html"}
        times = {name: opened(page) for name, like in pages_of.items() for page in [*site.glob(like)][:1]}
        print(f"index.html has {index.stat().st_size / 1e6:.1f} MB")
        print(*(f"{name}: open in {took:.2f} s" for name, took in times.items()), sep="\n")
        if asked.out:
            found = {"pages": pages, "MB": size / 1e6, "build, s": seconds, "build, CPU s": cpu,
                     "peak, MiB": peak / 1024, **{f"open {name}, s": took for name, took in times.items()}}  # fmt: skip
            asked.out.write_text(json.dumps(found, indent=1) + "\n")


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
