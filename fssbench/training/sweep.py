"""A sweep: the banks, trainings and records that a small file asks for, made one after the other where they lack.

What is there already is found on disk, so the same command goes on after a kill, inside a training or a run too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from fssbench.banks.bank import open_bank
from fssbench.errors import FssbenchError, UsageError, unknown_name
from fssbench.names import plain_name
from fssbench.records import Run, find_records, read_run
from fssbench.training.folders import checkpoint_folder

if TYPE_CHECKING:
    from fssbench.engine.run import RunRequest
    from fssbench.training.features import Kept
    from fssbench.training.request import TrainRequest

_EXAMPLE = """methods = ["panet", "canet"]
backbone = "efficientnet_lite0"
out = "results/lite"
[[data]]
dataset = "shapes5i"
folds = [0, 1]
bank = "episodes/shapes5i-lite.h5"
"""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Table):
    """A data set that is trained and tested on."""

    dataset: str
    folds: tuple[int, ...] = Field(min_length=1)
    bank: Path  # made where it lacks, by the fields below
    episodes: PositiveInt | None = None  # a fold; None: the protocol's
    auxiliary: int = Field(0, ge=0)  # images known by class only, a way
    skip_short_classes: bool = False
    methods: tuple[str, ...] | None = None  # here, and below, None: as the sweep says
    seeds: tuple[int, ...] | None = None
    steps: PositiveInt | None = None
    untrained: bool | None = None


class Sweep(_Table):
    """What a sweep file says. Paths are as the command line's, from where it is called."""

    methods: tuple[str, ...] = ()  # that are trained
    backbone: str
    data: tuple[Data, ...] = Field(min_length=1)
    out: Path  # of the records
    checkpoints: Path = Path("checkpoints")
    recipe: str = "lite"
    shots: tuple[PositiveInt, ...] = (1, 5)
    seeds: tuple[int, ...] = (0,)
    steps: PositiveInt | None = None  # instead of the recipe's
    untrained: bool = True  # records of each method before training too
    training_free: tuple[str, ...] = ()  # methods that are run as they are
    settings: tuple[str, ...] = ()  # of these, as `--set` has them; the others have the recipe's

    @model_validator(mode="after")
    def _names_its_methods(self) -> Self:
        if not self.every_method:
            raise ValueError("expected methods, or training_free ones")
        for method in (method for data in self.data for method in data.methods or ()):
            if method not in self.every_method:
                raise ValueError(unknown_name("method of the sweep", method, self.every_method))
        return self

    @property
    def every_method(self) -> tuple[str, ...]:
        """Those that are trained, and the training-free."""
        return (*self.methods, *self.training_free)

    def seeds_on(self, data: Data) -> tuple[int, ...]:
        """Seeds of the trainings on one data set."""
        return self.seeds if data.seeds is None else data.seeds

    def only(self, methods: Sequence[str]) -> Sweep:
        """The part of the sweep that concerns these methods, in the sweep's order; all of it where none are named."""
        for method in methods:
            if method not in self.every_method:
                raise UsageError(unknown_name("method of the sweep", method, self.every_method))
        if not methods:
            return self
        parts = {"methods": self.methods, "training_free": self.training_free}
        return self.model_copy(update={part: tuple(m for m in of if m in methods) for part, of in parts.items()})


@dataclass(frozen=True)
class Task:
    """One thing to make."""

    kind: Literal["bank", "train", "run"]
    data: Data
    method: str = ""
    seed: int = 0
    folds: tuple[int, ...] = ()
    weights: Path | None = None  # of a run: the folder of checkpoints; None: untrained
    done: bool = False

    def __str__(self) -> str:
        if self.kind == "bank":
            return f"bank {self.data.bank}"
        folds = f"{self.data.dataset}, fold{'s' * (len(self.folds) > 1)} {' '.join(map(str, self.folds))}"
        how = "" if self.kind == "train" else ", untrained" if self.weights is None else ", trained"
        return f"{self.kind} {self.method} on {folds}{how}" + (f", seed {self.seed}" if self.seed else "")


def read_sweep(path: Path) -> Sweep:
    """A sweep file. Raises `UsageError` saying what is wrong with it."""
    try:
        return Sweep.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: expected a sweep in TOML, found none: {error}. For example:\n{_EXAMPLE}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{path}: {problems}. For example:\n{_EXAMPLE}") from error


def tasks(sweep: Sweep) -> list[Task]:
    """Everything that the sweep asks for, in the order it is made, and what of it is there."""
    return list(_tasks(sweep, [read_run(folder) for folder in find_records(sweep.out)] if sweep.out.exists() else []))


def _tasks(sweep: Sweep, records: list[Run]) -> Iterator[Task]:
    for data in sweep.data:
        yield Task("bank", data, done=data.bank.exists())
        ours = _of_bank(records, data.bank)
        here = sweep.every_method if data.methods is None else data.methods
        for method in (method for method in sweep.training_free if method in here):
            yield Task("run", data, method, folds=data.folds, done=_recorded(ours, sweep, data, method, None))
        for method in (method for method in sweep.methods if method in here):
            if sweep.untrained if data.untrained is None else data.untrained:
                done = _recorded(ours, sweep, data, method, None)
                yield Task("run", data, method, folds=data.folds, done=done)
            for seed in sweep.seeds_on(data):
                folder = checkpoints(sweep, data, seed)
                trained = {fold: _trained(folder, method, sweep, data, fold) for fold in data.folds}
                for fold in data.folds:
                    yield Task("train", data, method, seed, (fold,), done=trained[fold])
                done = all(trained.values()) and _recorded(ours, sweep, data, method, seed)
                yield Task("run", data, method, seed, data.folds, weights=folder, done=done)


def _of_bank(records: list[Run], path: Path) -> list[Run]:
    if not path.exists():
        return []
    with open_bank(path) as bank:
        return [run for run in records if run.bank.fingerprint == bank.fingerprint]


def checkpoints(sweep: Sweep, data: Data, seed: int) -> Path:
    """Where the trainings of one data set and seed lie."""
    return sweep.checkpoints / f"{data.dataset}-{sweep.recipe}-seed{seed}"


def _trained(folder: Path, method: str, sweep: Sweep, data: Data, fold: int) -> bool:
    """`best` is written during a training, `last` when it ends."""
    trained = checkpoint_folder(folder, method, sweep.backbone, data.dataset, fold)
    return all((trained / f"{name}.safetensors").exists() for name in ("best", "last"))


def _recorded(records: list[Run], sweep: Sweep, data: Data, method: str, seed: int | None) -> bool:
    """Whether there is a record of every number of shots; `seed` None: untrained."""

    def asked_for(run: Run) -> bool:
        entries = [run.weights.get(fold) for fold in data.folds]
        seeds = {entry.regime.seed if entry and entry.regime else None for entry in entries}
        same = (run.method.name, run.backbone) == (plain_name(method), sweep.backbone)
        return same and set(data.folds) <= set(run.folds) and seeds == {seed}

    return set(sweep.shots) <= {run.shot for run in records if asked_for(run)}


def carry_out(sweep: Sweep, root: Path | None, say: Callable[[str], None]) -> list[tuple[Task, FssbenchError]]:
    """Make what lacks; returns what failed, which takes nothing else with it but what is built on it."""
    from fssbench.training.features import Kept

    failed: list[tuple[Task, FssbenchError]] = []
    everything, kept = tasks(sweep), Kept()
    for number, task in enumerate(everything, 1):
        broken = any(built_on(task, other) for other, _ in failed)
        if task.done or broken:
            continue
        say(f"[{number} of {len(everything)}] {task}")
        try:
            _make(sweep, task, root, say, kept)
        except FssbenchError as error:
            failed.append((task, error))
            say(f"failed: {task}: {error}")
    return failed


def built_on(task: Task, other: Task) -> bool:
    """Whether `task` needs what `other` makes."""
    if other.kind == "bank":
        return task.data == other.data and task.kind == "run"
    same = (task.data, task.method, task.seed) == (other.data, other.method, other.seed)
    return other.kind == "train" and same and task.kind == "run" and task.weights is not None


def _make(sweep: Sweep, task: Task, root: Path | None, say: Callable[[str], None], kept: Kept) -> None:
    if task.kind == "bank":
        make_bank(sweep, task.data, root)
    elif task.kind == "train":
        _train(sweep, task, root, say, kept)
    else:
        _run(sweep, task, say)


def make_bank(sweep: Sweep, data: Data, root: Path | None, *, force: bool = False) -> None:
    """The bank of a data set, at its place."""
    from fssbench.banks.generate import Request, generate
    from fssbench.datasets.registry import open_under
    from fssbench.protocols import find_protocol

    protocol = find_protocol("fssbench")
    if data.episodes is not None:
        protocol = protocol.but(episodes=data.episodes)
    dataset, protocol = open_under(protocol, data.dataset, root)
    wanted = Request(
        protocol, (max(sweep.shots),), folds=data.folds, auxiliary=data.auxiliary, skip_short=data.skip_short_classes
    )
    data.bank.parent.mkdir(parents=True, exist_ok=True)
    generate(dataset, wanted, data.bank, force=force)


def train_request(sweep: Sweep, task: Task, root: Path | None) -> TrainRequest:
    """What a task asks of a training."""
    import torch

    from fssbench.training.request import TrainRequest

    return TrainRequest(
        task.method, task.data.dataset, task.folds[0], checkpoints(sweep, task.data, task.seed), root,
        recipe=sweep.recipe, backbone=sweep.backbone, steps=task.data.steps or sweep.steps, seed=task.seed, validate=1,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )  # fmt: skip


def _train(sweep: Sweep, task: Task, root: Path | None, say: Callable[[str], None], kept: Kept) -> None:
    from fssbench.training.loop import Run as Training
    from fssbench.training.loop import Told

    Training(train_request(sweep, task, root), Told(say), kept).train()


def run_request(sweep: Sweep, task: Task) -> RunRequest:
    """What a task asks of a run."""
    from fssbench.engine.build import MethodSpec
    from fssbench.engine.devices import pick_device
    from fssbench.engine.evaluate import Settings
    from fssbench.engine.run import RunRequest
    from fssbench.training.request import recipe_settings

    trained = task.weights is not None
    free = task.method in sweep.training_free
    settings = sweep.settings if free else () if trained else recipe_settings(task.method, sweep.recipe)
    weights = str(task.weights) if trained else "imagenet"
    spec = MethodSpec(task.method, settings, sweep.backbone, weights, task.seed)
    return RunRequest(
        [spec], task.data.bank, Settings(device=pick_device("auto")), sweep.shots, task.data.folds, sweep.out
    )


def _run(sweep: Sweep, task: Task, say: Callable[[str], None]) -> None:
    from fssbench.engine.run import run_methods
    from fssbench.errors import MethodError

    for outcome in run_methods(run_request(sweep, task), Quiet(say)):
        if outcome.state == "failed":
            raise MethodError(outcome.message)
        say(f"{outcome.state}: {outcome.folder}")


class Quiet:
    """A run's progress without its bar."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say: Any = say

    def total(self, episodes: int, done: int) -> None:
        """Nothing."""

    def advance(self, episodes: int) -> None:
        """Nothing."""
