"""How the baselines' constants were chosen: mIoU on base classes, never on those that a fold tests.

    python benchmarks/baselines.py [--dataset shapes5i|pascal5i] [--episodes N] [--shots K]

Episodes are of the base classes of fold 0 from the training images (of pascal5i: of the list `trainaug`), features of
EfficientNet-Lite0. Prints one line a setting.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.registry import open_dataset
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluation import evaluate_method
from fssbench.protocol import find_protocol

POOLS = {"shapes5i": "train", "pascal5i": "trainaug"}
TRIED = [
    ("prototype", ""),
    *(("nearest", f"neighbours={k}") for k in (1, 5, 20)),
    *(("linear-probe", f"decay={decay}") for decay in (1e-2, 1e-3, 1e-4)),
    ("linear-probe", "balance=true"),
]


def main() -> None:
    """Measure every setting on one bank."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", choices=POOLS, default="shapes5i")
    options.add_argument("--episodes", type=int, default=100)
    options.add_argument("--shots", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base.h5"
        protocol = find_protocol("fssbench").but(episodes=given.episodes)
        dataset = open_dataset(given.dataset, pool=POOLS[given.dataset])
        generate(dataset, Request(protocol, (given.shots,), folds=(0,), skip_short=True), path)
        with open_bank(path) as bank:
            for name, setting in TRIED:
                settings = (setting,) if setting else ()
                method, _ = build_method(MethodSpec(name, settings, "efficientnet_lite0"), 0)
                miou = evaluate_method(method, bank, given.shots, (0,)).summary["miou"]
                print(f"{name:14}{setting:16}{100 * miou:6.1f}", flush=True)


if __name__ == "__main__":
    main()
