"""`fssbench train --cluster` and `fssbench sweep --cluster`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from fssbench.cluster.banks import MakingBank
from fssbench.cluster.connect import Ask, connected
from fssbench.cluster.run import Records, environment_on
from fssbench.cluster.schedule import Counts, Schedule, Work
from fssbench.cluster.trainings import Learning
from fssbench.engine.job import Outcome
from fssbench.errors import FssbenchError, MethodError
from fssbench.training.request import TrainRequest
from fssbench.training.sweep import Quiet, Sweep, Task, built_on, run_request, tasks, train_request

Say = Callable[[str], None]


def train_on_cluster(requests: Sequence[TrainRequest], ask: Ask, say: Say) -> tuple[list[Learning], Counts]:
    """A task a training; each says what came out, or why nothing did."""
    with ExitStack() as stack:
        ray = stack.enter_context(connected(ask, say))
        schedule = Schedule(ray, ask, say)
        stack.callback(schedule.close)
        learnings = [Learning(request, ask.device, schedule.gpus_of_a_node, say) for request in requests]
        schedule.add(learnings)
        schedule.run()
        return learnings, schedule.counts


def sweep_on_cluster(
    sweep: Sweep, root: Path | None, ask: Ask, say: Say
) -> tuple[list[tuple[Task, FssbenchError]], Counts]:
    """As `carry_out`: makes what lacks, all at once as far as one thing is not built on another."""
    with ExitStack() as stack:
        ray = stack.enter_context(connected(ask, say))
        schedule = Schedule(ray, ask, say)
        stack.callback(schedule.close)
        matrix = _Matrix(sweep, root, ask, say, schedule, stack)
        matrix.next()
        schedule.run()
        return matrix.failed, schedule.counts


class _Matrix:
    """The sweep's tasks: each is handed on as soon as what it is built on is there."""

    def __init__(
        self, sweep: Sweep, root: Path | None, ask: Ask, say: Say, schedule: Schedule, stack: ExitStack
    ) -> None:
        self.failed: list[tuple[Task, FssbenchError]] = []
        self._sweep, self._root, self._ask, self._say = sweep, root, ask, say
        self._schedule, self._stack = schedule, stack
        self._waiting = [task for task in tasks(sweep) if not task.done]
        self._under_way: list[Task] = []
        self._environment = environment_on(schedule, ask)

    def next(self) -> None:
        """Hand on what can be done now."""
        free = [task for task in self._waiting if not any(built_on(task, other) for other in self._before())]
        dropped = [task for task in free if any(built_on(task, other) for other, _ in self.failed)]
        self._waiting = [task for task in self._waiting if task not in free]
        free = [task for task in free if task not in dropped]
        self._under_way += free
        runs: dict[Path, list[Task]] = {}
        for task in free:
            if task.kind == "run":
                runs.setdefault(task.data.bank, []).append(task)
            else:
                self._add(task)
        for together in runs.values():
            self._records(together)

    def _before(self) -> list[Task]:
        return [task for task in (*self._waiting, *self._under_way) if task.kind != "run"]

    def _add(self, task: Task) -> None:
        try:
            if task.kind == "train":
                request = train_request(self._sweep, task, self._root)
                work: Work = Learning(request, self._ask.device, self._schedule.gpus_of_a_node, self._say)
            else:
                work = MakingBank(self._sweep, task, self._root)
        except FssbenchError as error:
            self._end(task, error)
            return
        work.ended = lambda message: self._end(task, MethodError(message) if message else None)
        self._schedule.add([work])

    def _records(self, together: list[Task]) -> None:
        """Runs on one bank in one go, so that equal encoders are shared; apart if they cannot be begun together."""
        requests = [run_request(self._sweep, task) for task in together]
        request = replace(requests[0], methods=[spec for each in requests for spec in each.methods])
        of_spec = {id(each.methods[0]): task for each, task in zip(requests, together, strict=True)}
        try:
            records = Records(request, self._ask, self._environment(request), self._stack, Quiet(self._say))
        except FssbenchError as error:
            if len(together) == 1:
                self._end(together[0], error)
                return
            for task in together:
                self._records([task])
            return
        left = {id(task): len(request.shots) for task in together}

        def ended(spec: Any, outcome: Outcome) -> None:
            task = of_spec[id(spec)]
            left[id(task)] -= 1
            if outcome.state == "failed":
                if task in self._under_way:
                    self._end(task, MethodError(outcome.message))
                return
            self._say(f"{outcome.state}: {outcome.folder}")
            if not left[id(task)] and task in self._under_way:
                self._end(task, None)

        records.follow(ended)
        self._schedule.add(records.works)

    def _end(self, task: Task, error: FssbenchError | None) -> None:
        self._under_way.remove(task)
        if error is not None:
            self.failed.append((task, error))
            self._say(f"failed: {task}: {error}")
        else:
            self._say(f"made: {task}")
        if task.kind != "run":
            self.next()
