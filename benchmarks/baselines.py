"""How the baselines' constants were chosen: on the base classes of each fold, never on those that it tests.

    python benchmarks/baselines.py [--dataset shapes5i|pascal5i] [--episodes N] [--shots K] [--only METHOD ...]
                                   [--out FILE]

A fold's column is mIoU over its training classes, on training images (of pascal5i: the list `trainaug`), the same
episodes for every setting; features are EfficientNet-Lite0's. What a fold tests has no part in its column, so a value
may be used where it is good in every column. Prints a table in Markdown, one line a setting.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path

import torch
from tabulate import tabulate

from fssbench.banks.generate import Request, generate
from fssbench.datasets.registry import open_under
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.plan import RunRequest
from fssbench.engine.run import run_methods
from fssbench.protocols import find_protocol

POOLS = {"shapes5i": "train", "pascal5i": "trainaug"}
TRIED: list[tuple[str, tuple[str, ...]]] = [
    ("prototype", ()),
    *(("nearest", (f"neighbours={count}",)) for count in (1, 3, 5, 10, 20, 50)),
    *(
        ("linear-probe", (f"decay={decay}", f"balance={balance}"))
        for balance, decay in product(("false", "true"), ("10", "1", "1e-1", "1e-2", "1e-3", "1e-4"))
    ),
    *(("linear-probe", (f"steps={steps}",)) for steps in (30, 300)),
]


class Silent:
    """A run's progress, told to nobody."""

    def total(self, episodes: int, done: int) -> None:
        """How many episodes there are."""

    def advance(self, episodes: int) -> None:
        """Episodes that were done."""

    def say(self, message: str) -> None:
        """What the user should know."""
        print(message, flush=True)


def main() -> None:
    """Measure every setting on one bank: they share the encoder's pass over the images."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", choices=POOLS, default="shapes5i")
    options.add_argument("--episodes", type=int, default=100, help="a fold")
    options.add_argument("--shots", type=int, default=1)
    options.add_argument("--folds", type=int, nargs="*", help="default: all")
    options.add_argument("--only", nargs="*", choices=sorted({name for name, _ in TRIED}))
    options.add_argument("--out", type=Path, help="write the table as JSON")
    given = options.parse_args()
    tried = [(name, settings) for name, settings in TRIED if not given.only or name in given.only]
    with tempfile.TemporaryDirectory() as folder:
        bank, out = Path(folder) / "base.h5", Path(folder) / "records"
        dataset, protocol = open_under(
            find_protocol("fssbench").but(episodes=given.episodes), given.dataset, pool=POOLS[given.dataset]
        )
        generate(
            dataset,
            Request(protocol, (given.shots,), folds=tuple(given.folds) if given.folds else None, skip_short=True),
            bank,
        )
        specs = [MethodSpec(name, settings, "efficientnet_lite0") for name, settings in tried]
        request = RunRequest(specs, bank, Settings(torch.device("cpu")), (given.shots,), out=out)
        outcomes = run_methods(request, Silent())
    folds = list(outcomes[0].summary["folds"])
    rows = [
        [
            name,
            ", ".join(settings),
            *(100 * o.summary["folds"][fold]["miou"] for fold in folds),
            100 * o.summary["miou"],
        ]
        for (name, settings), o in zip(tried, outcomes, strict=True)
    ]
    headers = ["method", "setting", *(f"fold {fold}" for fold in folds), "mean"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".1f"))
    if given.out:
        found = [dict(zip(headers, row, strict=True)) for row in rows]
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
