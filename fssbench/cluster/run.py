"""`fssbench run --cluster`: the records of `fssbench run`, whose episodes were done on many machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from fssbench.banks.bank import open_bank
from fssbench.cluster.connect import Ask, connected
from fssbench.cluster.episodes import Group
from fssbench.cluster.schedule import Counts, Schedule, Work
from fssbench.engine.build import MethodSpec
from fssbench.engine.devices import describe, pick_device
from fssbench.engine.job import Job, Outcome, Progress
from fssbench.engine.plan import RunRequest, environment_of, plan_run
from fssbench.engine.run import begin, draws, grouped, jobs_of
from fssbench.records import Environment


def run_on_cluster(request: RunRequest, ask: Ask, progress: Progress) -> tuple[list[Outcome], Counts]:
    """As `run_methods`, with a task for each group of methods that shares an encoder on a fold."""
    with ExitStack() as stack:
        ray = stack.enter_context(connected(ask, progress.say))
        schedule = Schedule(ray, ask, progress.say)
        stack.callback(schedule.close)
        records = Records(request, ask, environment_on(schedule, ask)(request), stack, progress)
        records.follow(lambda spec, outcome: None)
        schedule.add(records.works)
        schedule.run()
        return records.outcomes, schedule.counts


class Records:
    """Records in the making whose episodes come from a cluster; each is made once it has all of them."""

    def __init__(
        self, request: RunRequest, ask: Ask, environment: Environment, stack: ExitStack, progress: Progress
    ) -> None:
        bank = stack.enter_context(open_bank(request.bank))
        self._request, self._ask, self._progress = request, ask, progress
        plan = plan_run(bank, request, progress.say, environment)
        self._all = jobs_of(plan)
        self._open = begin(self._all, stack, progress)
        self.works: list[Work] = []
        for fold in plan.folds:
            for group in grouped(fold, self._open):
                jobs = [job for _, same in group for job in same]
                for shots in draws(bank, group):
                    self.works.append(self._work(fold, [job for job in jobs if job.shot in shots]))

    def _work(self, fold: int, jobs: Sequence[Job]) -> Work:
        specs = [spec for spec in self._request.methods if any(job.entrant.spec is spec for job in jobs)]
        shots = sorted({job.shot for job in jobs})
        asked = {(id(job.entrant.spec), job.shot): job for job in jobs}
        work = Group(
            replace(self._request, methods=specs, shots=shots),
            [asked.get((id(spec), shot)) for spec in specs for shot in shots],
            fold, self._ask.device, self._progress.say, self._progress.advance,
        )  # fmt: skip
        work.ended = lambda why: self._make()
        return work

    def follow(self, told: Callable[[MethodSpec, Outcome], None]) -> None:
        """Call `told` once for every record that is there, or has failed."""
        self._told = told
        for job in self._all:
            if job not in self._open:
                told(job.entrant.spec, job.outcome)
        self._make()

    def _make(self) -> None:
        for job in list(self._open):
            if job.error is not None or not any(len(job.pending(fold)) for fold in job.plan.folds):
                self._open.remove(job)
                job.finish()
                self._told(job.entrant.spec, job.outcome)

    @property
    def outcomes(self) -> list[Outcome]:
        """One a record, in the order asked for."""
        return [job.outcome for job in self._all]


def environment_on(schedule: Schedule, ask: Ask) -> Callable[[RunRequest], Environment]:
    """What this process says of itself, with the device of a node: nodes with another are refused."""
    device = schedule.ask(_device, ask.device, ask.cpus)
    return lambda request: environment_of(request.settings).model_copy(update={"device": device})


def _device(name: str, cpus: float) -> str:
    torch.set_num_threads(max(1, int(cpus)))
    return describe(pick_device(name))
