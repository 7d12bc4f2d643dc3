"""`fssbench run`: methods on a bank, a record for each method and number of shots, resumed where it was cut off."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from fssbench.banks.bank import open_bank
from fssbench.engine.build import build_method, checkpoint_entries, code_sha256, encoder_sha256
from fssbench.engine.clock import shares
from fssbench.engine.counting import Resolution
from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Contender, Counted, Settings, evaluate_fold, placed
from fssbench.engine.job import Job, Outcome, Progress, RunRequest
from fssbench.engine.needs import encoder_key
from fssbench.engine.provenance import environment
from fssbench.errors import UsageError
from fssbench.method import Method
from fssbench.records import Environment
from fssbench.regime import Regime, exposure

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank

__all__ = ["Outcome", "Progress", "RunRequest", "run_methods"]


def run_methods(request: RunRequest, progress: Progress) -> list[Outcome]:
    """Run every method at every number of shots; one outcome each, in the order asked for.

    Finished records are skipped, unfinished ones resumed. A method that fails takes none of the others with it.
    Raises `FssbenchError` for anything wrong with the request, before any work is done.
    """
    with ExitStack() as stack:
        bank = stack.enter_context(open_bank(request.bank))
        jobs = prepare(bank, request, progress, environment_of(request.settings))
        open_jobs = begin(jobs, stack, progress)
        settings = scored(bank, request.settings)
        with numerics(settings.device, settings.precision):
            for fold in jobs[0].folds:
                for group in grouped(fold, open_jobs, settings):
                    for shots in draws(bank, group):
                        evaluate_group(bank, fold, shots, group, settings, progress)
        for job in open_jobs:
            job.finish(settings)
        return [job.outcome for job in jobs]


def environment_of(settings: Settings) -> Environment:
    """What records made in this process with these settings say about it; taken when a run begins.

    The checkout may have moved on by the time the run is done.
    """
    options: dict[str, object] = {"channels_last": settings.channels_last, "compile": settings.compile}
    return environment(settings.device, settings.precision, options)


def prepare(bank: Bank, request: RunRequest, progress: Progress, where: Environment) -> list[Job]:
    """A job for every method and number of shots, methods outermost; nothing is written yet.

    Raises `FssbenchError` for anything wrong with the request.
    """
    folds, shots = _checked(bank, request)
    jobs: list[Job] = []
    for spec in request.methods:
        classes = {fold: {c: bank.class_names[c] for c in bank.fold_classes[fold]} for fold in folds}
        entries = checkpoint_entries(
            spec, classes, bank.dataset, allow_contaminated=request.allow_contaminated
        )  # of every fold, before the first episode
        for fold, entry in entries.items():
            seen = exposure(entry.regime or Regime(), bank.dataset, classes[fold], fold)
            if seen.state == "unknown":
                progress.say(f"{entry.path}: not known whether it saw the classes of fold {fold}: {seen.reason}")
        method, first = build_method(spec, folds[0], bank.dataset)
        weights = entries or dict.fromkeys(folds, first)
        code = code_sha256([method])
        jobs += [Job(spec, method, weights, code, shot, folds, bank, request, where) for shot in shots]
    return jobs


def begin(jobs: Sequence[Job], stack: ExitStack, progress: Progress) -> list[Job]:
    """Take the records' folders; returns the jobs that are not finished. `stack` gives the folders back."""
    for job in jobs:
        job.begin(stack, progress)
    open_jobs = [job for job in jobs if job.journal is not None]
    progress.total(sum(job.episodes_to_do for job in open_jobs), sum(len(job.done_episodes) for job in open_jobs))
    return open_jobs


def scored(bank: Bank, settings: Settings) -> Settings:
    """The settings with the resolution at which this bank's predictions are scored."""
    return replace(settings, resolution=scoring_resolution(bank))


def scoring_resolution(bank: Bank) -> Resolution:
    """Where predictions on this bank are compared with the labels."""
    scoring = bank.protocol.scoring
    if isinstance(scoring, str):
        return Resolution()
    return Resolution(scoring[0], scoring[1])


def _checked(bank: Bank, request: RunRequest) -> tuple[list[int], list[int]]:
    known = sorted(bank.fold_classes)
    folds = sorted(set(request.folds)) if request.folds is not None else known  # one run, in whatever order
    for fold in folds:
        for shot in request.shots:
            bank.episodes(fold, shot)  # raises for a fold or a number of shots that is not there
    if request.settings.annotation not in bank.annotation_kinds:
        raise UsageError(
            f"--annotation {request.settings.annotation}: {bank.path} holds {', '.join(bank.annotation_kinds)}. "
            "Generate a bank with --annotations."
        )
    if not bank.has_images:
        raise UsageError(f"{bank.path} is an index without images: bind it to your data by `fssbench attach` first.")
    return folds, list(request.shots)


Group = list[tuple[Method, list[Job]]]  # methods that share an encoder, with their numbers of shots


def grouped(fold: int, jobs: Sequence[Job], settings: Settings) -> list[Group]:
    """All jobs with anything left to do on one fold, those with equal encoders together."""
    by_method: dict[str, list[Job]] = {}
    for job in jobs:
        if job.error is None and len(job.pending(fold)):
            by_method.setdefault(job.spec_key, []).append(job)
    groups: dict[Hashable, Group] = {}
    for same in by_method.values():
        method = placed(same[0].method_for(fold), settings)
        groups.setdefault(encoder_key(method, encoder_sha256(method)), []).append((method, same))
    return list(groups.values())


def draws(bank: Bank, group: Group) -> list[list[int]]:
    """The numbers of shots that are run together: all of a nested draw, else each for itself."""
    shots = sorted({job.shot for _, same in group for job in same})
    return [shots] if bank.protocol.nested else [[shot] for shot in shots]


def evaluate_group(
    bank: Bank, fold: int, shots: Sequence[int], group: Group, settings: Settings, progress: Progress
) -> None:
    """One pass over a fold's images for all methods of a group; what fails is in the jobs' `error`."""
    taking_part = [(method, [job for job in same if job.shot in shots]) for method, same in group]
    pairs = [(_contender(method, same), same) for method, same in taking_part if same]
    episodes = bank.episodes(fold, max(shots))
    contenders = [contender for contender, _ in pairs]
    work = {(n, job.shot): len(job.pending(fold)) for n, (_, same) in enumerate(pairs) for job in same}
    report = evaluate_fold(bank, fold, episodes, contenders, settings, progress.advance, progress.say)
    spent = shares(report.clock.spent, work)
    for number, (contender, same) in enumerate(pairs):
        for job in same:
            job.error = job.error or contender.error
            for phase, seconds in spent[number, job.shot].items():
                job.seconds[phase] = job.seconds.get(phase, 0.0) + seconds


def _contender(method: Method, jobs: Sequence[Job]) -> Contender:
    by_shot = {job.shot: job for job in jobs}

    def take(fold: int, shot: int, rows: Sequence[Counted]) -> None:
        by_shot[shot].take(fold, rows)

    return Contender(
        jobs[0].spec.name,
        method,
        sorted(by_shot),
        lambda fold, shot: by_shot[shot].pending(fold),
        take,
        any(job.keeps_masks for job in jobs),
    )
