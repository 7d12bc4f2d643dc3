"""The wall time of one small matrix on one and on two nodes of one core each, and whether the records are equal.

    python benchmarks/cluster.py [--episodes N] [--methods M ...] [--backbone NAME] [--wait SECONDS]
                                 [--out FILE]

Both runs are on Ray, begun with workers that have torch loaded, so the ratio is that of the work. `--wait` sleeps so
long in every step, as a worker does whose GPU computes: where cores are busy, only this shows the scheduling.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fssbench.banks.generate import Request, generate
from fssbench.cluster.connect import QUIET, Ask
from fssbench.cluster.run import run_on_cluster
from fssbench.datasets.registry import open_dataset
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.plan import RunRequest
from fssbench.method import EpisodeBatch
from fssbench.protocols import find_protocol
from methods.panet import PANet


class Waits(PANet):
    """PANet that waits in every step."""

    def segment(self, episodes: EpisodeBatch) -> torch.Tensor:
        time.sleep(float(os.environ.get("FSSBENCH_WAIT", "0")))
        return super().segment(episodes)


class Silent:
    """No progress."""

    def total(self, episodes: int, done: int) -> None: ...
    def advance(self, episodes: int) -> None: ...
    def say(self, message: str) -> None: ...


def timed(nodes: int, bank: Path, asked: argparse.Namespace, out: Path) -> tuple[float, list[bytes]]:
    """Seconds of the matrix on so many nodes, and its records' rows."""
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster()
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=100 << 20, include_dashboard=False)
        ray.init(cluster.address, log_to_driver=False, logging_level="error")
        specs = [MethodSpec(name, ("size=97,97",), asked.backbone, "random", i) for i, name in enumerate(asked.methods)]
        settings = Settings(torch.device("cpu"), head_batch=4)

        ray.get([ray.remote(_warm).options(scheduling_strategy="SPREAD").remote() for _ in range(nodes)])
        begun = time.perf_counter()
        outcomes, _ = run_on_cluster(RunRequest(specs, bank, settings, out=out), Ask("auto", device="cpu"), Silent())
        seconds = time.perf_counter() - begun
        return seconds, [(outcome.folder / "episodes.csv.gz").read_bytes() for outcome in outcomes]
    finally:
        ray.shutdown()
        cluster.shutdown()


def _warm() -> None:
    import fssbench.cluster.run  # noqa: F401

    time.sleep(2)  # so that each node has one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--methods", nargs="+", default=["cluster:Waits", "panet"])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    os.environ |= {**QUIET, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1",
                   "FSSBENCH_WAIT": str(asked.wait)}  # fmt: skip
    here = Path(__file__).resolve().parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(here))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank.h5"
        protocol = find_protocol("fssbench").but(episodes=asked.episodes)
        generate(open_dataset("shapes5i", None), Request(protocol, (1,)), bank)
        one, rows = timed(1, bank, asked, Path(folder) / "one")
        two, again = timed(2, bank, asked, Path(folder) / "two")
    print(f"one node of one core: {one:.1f} s; two: {two:.1f} s; ratio {one / two:.2f}; "
          f"records equal: {rows == again}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")  # fmt: skip
    if asked.out:
        found = {"one node, s": one, "two nodes, s": two, "ratio": one / two, "records equal": rows == again}
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
