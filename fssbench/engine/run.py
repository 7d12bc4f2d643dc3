"""`fssbench run`: methods on a bank, a record for each method and number of shots, resumed where it was cut off."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fssbench.banks.bank import open_bank
from fssbench.engine.clock import shares
from fssbench.engine.devices import numerics
from fssbench.engine.entrant import Entrant
from fssbench.engine.evaluate import Contender, Counted, evaluate_fold, placed
from fssbench.engine.hashes import encoder_sha256
from fssbench.engine.job import Job, Outcome, Progress
from fssbench.engine.needs import encoder_key
from fssbench.engine.plan import RunPlan, RunRequest, plan_run
from fssbench.errors import FssbenchError
from fssbench.method import Method

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
        plan = plan_run(bank, request, progress.say)
        jobs = jobs_of(plan)
        open_jobs = begin(jobs, stack, progress)
        with numerics(plan.settings.device, plan.settings.precision):
            for fold in plan.folds:
                for group in grouped(fold, open_jobs):
                    for shots in draws(bank, group):
                        evaluate_group(plan, fold, shots, group, progress)
        for job in open_jobs:
            job.finish()
        return [job.outcome for job in jobs]


def jobs_of(plan: RunPlan) -> list[Job]:
    """A job for every method and number of shots, methods outermost; nothing is written yet."""
    return [Job(plan, entrant, shot) for entrant in plan.entrants for shot in plan.request.shots]


def begin(jobs: Sequence[Job], stack: ExitStack, progress: Progress) -> list[Job]:
    """Take the records' folders; returns the jobs that are not finished. `stack` gives the folders back."""
    for job in jobs:
        job.begin(stack, progress)
    open_jobs = [job for job in jobs if job.journal is not None]
    progress.total(sum(job.episodes_to_do for job in open_jobs), sum(len(job.done_episodes) for job in open_jobs))
    return open_jobs


Group = list[tuple[Method, list[Job]]]  # methods that share an encoder, with their numbers of shots


def grouped(fold: int, jobs: Sequence[Job]) -> list[Group]:
    """All jobs with anything left to do on one fold, those with equal encoders together."""
    of_entrant: dict[Entrant, list[Job]] = {}
    for job in jobs:
        if job.error is None and len(job.pending(fold)):
            of_entrant.setdefault(job.entrant, []).append(job)
    groups: dict[Hashable, Group] = {}
    for entrant, same in of_entrant.items():
        try:
            method = entrant.method_for(fold)
        except FssbenchError as error:  # a checkpoint that is gone by now fails its own method alone
            for job in same:
                job.error = error
            continue
        groups.setdefault(encoder_key(method, encoder_sha256(method)), []).append((method, same))
    return list(groups.values())


def draws(bank: Bank, group: Group) -> list[list[int]]:
    """The numbers of shots that are run together: all of a nested draw, else each for itself."""
    shots = sorted({job.shot for _, same in group for job in same})
    return [shots] if bank.protocol.nested else [[shot] for shot in shots]


def evaluate_group(plan: RunPlan, fold: int, shots: Sequence[int], group: Group, progress: Progress) -> None:
    """One pass over a fold's images for all methods of a group; what fails is in the jobs' `error`."""
    taking_part = [(method, [job for job in same if job.shot in shots]) for method, same in group]
    pairs = [(_contender(placed(method, plan.settings), same), same) for method, same in taking_part if same]
    episodes = plan.bank.episodes(fold, max(shots))
    contenders = [contender for contender, _ in pairs]
    work = {(n, job.shot): len(job.pending(fold)) for n, (_, same) in enumerate(pairs) for job in same}
    report = evaluate_fold(plan.bank, fold, episodes, contenders, plan.settings, progress.advance, progress.say)
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
        jobs[0].name,
        method,
        sorted(by_shot),
        lambda fold, shot: by_shot[shot].pending(fold),
        take,
        any(job.keeps_masks for job in jobs),
    )
