"""The cross-domain suite in one go: train on PASCAL with nothing held out, test on each member by PATNet's protocol.

What is there already is found on disk, so the same command goes on after a kill. PATNet trains on all twenty classes
and chooses its checkpoint on FSS-1000's validation classes; here it is chosen on base classes, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.errors import MethodError
from fssbench.reports.studies import robustness

if TYPE_CHECKING:
    from fssbench.engine.job import Outcome

PROTOCOL = "hsnet"


@dataclass(frozen=True)
class CrossDomain:
    """What to make, and where."""

    methods: Sequence[str]
    root: Path | None = None
    backbone: str | None = None
    recipe: str = "paper"
    steps: int | None = None  # instead of the recipe's
    shots: tuple[int, ...] = (1, 5)
    seed: int = 0
    episodes: int | None = None  # of a member; None: the protocol's
    banks: Path = Path("episodes")
    checkpoints: Path = Path("checkpoints/cross-domain")
    out: Path = Path("results")
    weights: str | None = None  # "imagenet" or "random": no training
    allow_contaminated: bool = False


def bank_path(asked: CrossDomain, member: str) -> Path:
    """Where a member's bank lies."""
    few = f"-{asked.episodes}" if asked.episodes else ""
    return asked.banks / f"{member}-{PROTOCOL}{few}-1way-{'-'.join(map(str, sorted(asked.shots)))}shot.h5"


def make_banks(asked: CrossDomain, say: Callable[[str], None]) -> list[Path]:
    """The members' banks, those made that lack. Raises `DataError` naming the first member whose data are not there."""
    from fssbench.banks.generate import Request, generate
    from fssbench.datasets.registry import open_under
    from fssbench.protocols import find_protocol

    paths = []
    for member in robustness.SUITES["cross-domain"]:
        paths.append(bank_path(asked, member))
        if not paths[-1].exists():
            say(f"bank {paths[-1]}")
            protocol = find_protocol(PROTOCOL, member)
            protocol = protocol.but(episodes=asked.episodes) if asked.episodes else protocol
            dataset, protocol = open_under(protocol, member, asked.root)
            asked.banks.mkdir(parents=True, exist_ok=True)
            generate(dataset, Request(protocol, asked.shots), paths[-1])
    return paths


def carry_out(asked: CrossDomain, say: Callable[[str], None]) -> list[Outcome]:
    """Make banks, trainings and records that lack; the outcomes of all runs. Raises `FssbenchError`."""
    from fssbench.engine.build import MethodSpec
    from fssbench.engine.devices import pick_device
    from fssbench.engine.evaluate import Settings
    from fssbench.engine.run import RunRequest, run_methods
    from fssbench.training.loop import Run, Told
    from fssbench.training.request import TrainRequest
    from fssbench.training.sweep import Quiet

    paths = make_banks(asked, say)
    device, specs = pick_device("auto"), []
    for method in dict.fromkeys(asked.methods):
        weights = asked.weights or ""
        if asked.weights is None:
            request = TrainRequest(
                method, "pascal5i", 0, asked.checkpoints, asked.root, "whole", asked.recipe, asked.backbone,
                steps=asked.steps, seed=asked.seed, device=device,
            )  # fmt: skip
            trained = Run(request, Told(say)).train()
            say(f"{trained.folder}: {trained.state}")
            weights = str(trained.folder / "best.safetensors")
        specs.append(MethodSpec(method, (), asked.backbone, weights, asked.seed))
    outcomes = []
    for path in paths:
        wanted = RunRequest(
            specs, path, Settings(device=device), asked.shots, None, asked.out,
            allow_contaminated=asked.allow_contaminated,
        )  # fmt: skip
        for outcome in run_methods(wanted, Quiet(say)):
            if outcome.state == "failed":
                raise MethodError(outcome.message)
            outcomes.append(outcome)
    return outcomes
