"""The whole way to a paper's table on this machine: data, bank, checkpoints, runs, report, each step a command.

What is done is read from what lies there (banks, checkpoints, records), so that the way can be taken in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fssbench.banks.bank import Bank, open_bank
from fssbench.errors import BankError, FssbenchError, RecordError, UsageError
from fssbench.protocols import PROTOCOLS, find_protocol
from fssbench.records import Run, find_records, read_run
from fssbench.registry import find_method
from fssbench.reports.papers.paper import Paper, find_paper

FOLDS = {"fss1000": 1}  # else four


@dataclass(frozen=True)
class Step:
    """One command of the way, and whether what it makes is there already."""

    what: str
    command: tuple[str, ...]  # without `fssbench`
    done: bool
    remark: str = ""


@dataclass(frozen=True)
class Wish:
    """What of a paper to reproduce, and where things lie."""

    method: str
    dataset: str = "pascal5i"
    protocol: str | None = None  # None: the paper's own, or the default where fssbench knows none
    backbone: str | None = None
    recipe: str = "paper"
    root: Path | None = None
    episodes: Path = Path("episodes")
    checkpoints: Path = Path("checkpoints")
    results: Path = Path("results")


def way(wish: Wish) -> list[Step]:
    """All steps, in order. Raises `UsageError` for a paper without tables, or without one on the data set."""
    paper = find_paper(wish.method)
    method = wish.method if wish.method in (paper.method, *paper.also) else paper.method
    protocol = wish.protocol or (paper.method if paper.method in PROTOCOLS else "fssbench")
    find_protocol(protocol, wish.dataset)  # raises for an unknown one
    tests = _tests(paper, method, wish.dataset)
    weights = _weights(wish, method)
    banks: list[Step] = []
    runs: list[Step] = []
    for ways, (shots, kinds) in sorted(tests.items()):
        path, bank_step = _bank(wish, method, protocol, ways, shots, kinds)
        banks.append(bank_step)
        runs += [_run(wish, method, path, bank_step.done, shots, kind, bool(weights)) for kind in kinds]
    return [_data(wish, all(step.done for step in banks)), *banks, *weights, *runs,
            Step("table", ("report", str(wish.results), "--paper", paper.method), done=False)]  # fmt: skip


def take(steps: Sequence[Step], execute: Callable[[Sequence[str]], int]) -> int:
    """Run what is not done, in order; stop at the first command that fails and give back its exit status."""
    for step in steps:
        if not step.done and (status := execute(step.command)):
            return status
    return 0


def _tests(paper: Paper, method: str, dataset: str) -> dict[int, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Ways -> numbers of shots and kinds of support labels that the paper's tables ask of the method."""
    names = {paper.name, paper.also.get(method, paper.name)}
    asked = [
        (table.way, shot, row.annotation)
        for table in paper.tables
        if table.dataset == dataset
        for row in table.rows
        if row.name in names and row.measured
        for shot in table.shots
    ]
    if not asked:
        known = sorted({table.dataset for table in paper.tables})
        raise UsageError(f"--dataset {dataset}: {paper.name}'s tables are on {', '.join(known)}.")
    return {
        ways: (
            tuple(sorted({shot for n, shot, _ in asked if n == ways})),
            tuple(dict.fromkeys(["mask", *(kind for n, _, kind in asked if n == ways)])),
        )
        for ways in {n for n, _, _ in asked}
    }


def _data(wish: Wish, unneeded: bool) -> Step:
    from fssbench.datasets.registry import data_root, open_dataset

    root = data_root(wish.root)
    command = ("download", wish.dataset, "--out", str(root))
    try:
        if not unneeded:
            open_dataset(wish.dataset, root)
    except FssbenchError as error:
        return Step("data", command, done=False, remark=str(error))
    return Step("data", command, done=True)


def _bank(
    wish: Wish, method: str, protocol: str, ways: int, shots: Sequence[int], annotations: Sequence[str]
) -> tuple[Path, Step]:
    chosen = find_protocol(protocol, wish.dataset)
    drawn = [max(shots)] if chosen.nested else list(shots)
    weak = [kind for kind in annotations if kind != "mask"]
    path = wish.episodes / f"{wish.dataset}-{protocol}-{ways}way-{'-'.join(map(str, drawn))}shot.h5"
    found = None
    for candidate in [path, *sorted(wish.episodes.glob("*.h5"))]:
        if candidate.is_file() and _fits(candidate, wish.dataset, protocol, ways, shots, annotations):
            found = candidate
            break
    command = ["generate-episodes", wish.dataset, "--protocol", protocol, "--ways", str(ways), "--shots"]
    command += [*map(str, drawn), "--out", str(path)]
    command += ["--annotations", ",".join(weak)] if weak else []
    command += ["--root", str(wish.root)] if wish.root else []
    command += ["--auxiliary", "5"] if find_method(method).info.uses_auxiliary else []
    known = wish.protocol or protocol != "fssbench"
    remark = "" if known else "the paper's own protocol is not known to fssbench"
    return found or path, Step(f"bank, {ways}-way", tuple(command), found is not None, remark)


def _fits(path: Path, dataset: str, protocol: str, ways: int, shots: Sequence[int], kinds: Sequence[str]) -> bool:
    try:
        with open_bank(path) as bank:
            same = (bank.dataset, bank.protocol.name, bank.ways) == (dataset, protocol, ways)
            return same and bank.has_images and set(kinds) <= set(bank.masks.kinds) and _has(bank, shots)
    except BankError:
        return False


def _has(bank: Bank, shots: Sequence[int]) -> bool:
    return set(shots) <= set(bank.draws) or (bank.protocol.nested and max(shots) <= bank.shots)


def _weights(wish: Wish, method: str) -> list[Step]:
    """A training a fold, or nothing for a method that has nothing to train."""
    info = find_method(method).info
    if not info.trainable:
        return []
    steps = []
    for fold in range(FOLDS.get(wish.dataset, 4)):
        command = ["train", method, "--dataset", wish.dataset, "--folds", str(fold), "--recipe", wish.recipe]
        command += ["--out", str(wish.checkpoints)]
        command += ["--backbone", wish.backbone] if wish.backbone else []
        command += ["--root", str(wish.root)] if wish.root else []
        backbone = wish.backbone or "*"
        trained = wish.checkpoints.glob(f"{method}-{backbone}-{wish.dataset}-fold{fold}/best.safetensors")
        imported = f"or, with the authors' file from {info.code}: fssbench import-checkpoint {method} FILE "
        imported += f"--folds {fold} --out {_home(wish, method, fold) / 'best.safetensors'}"
        steps.append(Step(
            f"checkpoint, fold {fold}", tuple(command), any(trained), imported if info.code else "no code was published"
        ))  # fmt: skip
    return steps


def _home(wish: Wish, method: str, fold: int) -> Path:
    """Where `fssbench run --weights FOLDER` looks for a fold's checkpoint."""
    backbone = wish.backbone or find_method(method).info.backbones[0]
    return wish.checkpoints / f"{method}-{backbone}-{wish.dataset}-fold{fold}"


def _run(
    wish: Wish, method: str, bank: Path, have_bank: bool, shots: Sequence[int], annotation: str, trained: bool
) -> Step:
    command = ["run", method, "--bank", str(bank), "--shots", *map(str, shots), "--out", str(wish.results)]
    command += ["--weights", str(wish.checkpoints)] if trained else []
    command += ["--backbone", wish.backbone] if wish.backbone else []
    command += ["--annotation", annotation] if annotation != "mask" else []
    done = False
    if have_bank:
        with open_bank(bank) as opened:
            wanted, folds = opened.fingerprint, sorted(opened.fold_classes)
        there = {
            run.shot
            for run in _runs(wish.results)
            if (run.method.name, run.bank.fingerprint, run.annotation) == (method, wanted, annotation)
            and run.folds == folds
            and (wish.backbone in (None, run.backbone))
            and (not trained or {entry.kind for entry in run.weights.values()} == {"checkpoint"})
        }
        done = set(shots) <= there
    return Step(f"run, supports as {annotation}", tuple(command), done)


def _runs(results: Path) -> Iterator[Run]:
    for folder in find_records(results) if results.is_dir() else []:
        try:
            yield read_run(folder)
        except RecordError:
            continue
