"""A run's request, resolved once into a plan: what follows only reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.engine.build import MethodSpec
from fssbench.engine.entrant import Entrant, entrant
from fssbench.engine.evaluate import Settings
from fssbench.engine.provenance import environment
from fssbench.errors import UsageError
from fssbench.records import Environment

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank


@dataclass(frozen=True)
class RunRequest:
    """What to run. `folds` and `shots` None: all of the bank's folds, and 1 shot."""

    methods: Sequence[MethodSpec]
    bank: Path
    settings: Settings
    shots: Sequence[int] = (1,)
    folds: Sequence[int] | None = None
    out: Path = Path("results")
    force: bool = False
    save_predictions: bool = False
    allow_contaminated: bool = False


@dataclass(frozen=True)
class RunPlan:
    """Methods with their weights, on folds of a bank, and what the records say of this process."""

    request: RunRequest
    bank: Bank
    folds: Sequence[int]  # sorted
    entrants: Sequence[Entrant]  # in the order asked for
    environment: Environment

    @property
    def settings(self) -> Settings:
        """How to run."""
        return self.request.settings


def plan_run(bank: Bank, request: RunRequest, say: Callable[[str], None], where: Environment | None = None) -> RunPlan:
    """Read and check everything that a run needs; writes nothing. `where` is this process, if not given.

    Raises `FssbenchError` for anything wrong with the request.
    """
    where = where or environment_of(request.settings)  # now: the checkout may have moved on by the time the run is done
    folds = _checked_folds(bank, request)
    classes = {fold: {c: bank.class_names[c] for c in bank.fold_classes[fold]} for fold in folds}
    entrants = [entrant(spec, bank.dataset, classes, request.allow_contaminated, say) for spec in request.methods]
    return RunPlan(request, bank, folds, entrants, where)


def environment_of(settings: Settings) -> Environment:
    """What records made in this process with these settings say about it."""
    options: dict[str, object] = {"channels_last": settings.channels_last, "compile": settings.compile}
    return environment(settings.device, settings.precision, options)


def _checked_folds(bank: Bank, request: RunRequest) -> list[int]:
    """The folds of a request that this bank can serve, sorted: one run, in whatever order they were given."""
    folds = sorted(set(request.folds)) if request.folds is not None else sorted(bank.fold_classes)
    for fold in folds:
        for shot in request.shots:
            bank.episodes(fold, shot)  # raises for a fold or a number of shots that is not there
    if request.settings.annotation not in bank.masks.kinds:
        raise UsageError(
            f"--annotation {request.settings.annotation}: {bank.path} holds {', '.join(bank.masks.kinds)}. "
            "Generate a bank with --annotations."
        )
    if not bank.has_images:
        raise UsageError(f"{bank.path} is an index without images: bind it to your data by `fssbench attach` first.")
    return folds
