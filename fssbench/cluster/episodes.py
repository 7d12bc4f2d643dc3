"""Methods that share an encoder on a fold: one task, on a node and as its driver sees it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fssbench.banks.bank import open_bank
from fssbench.cluster.parcels import Parcel, local_folder, unpack
from fssbench.cluster.schedule import NotThereError, Post, Work
from fssbench.engine.devices import numerics, pick_device
from fssbench.engine.job import Job
from fssbench.engine.plan import RunPlan, RunRequest, plan_run
from fssbench.engine.run import begin, evaluate_group, grouped, jobs_of
from fssbench.errors import MethodError, RecordError

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank

_EVERY = 0.5  # s between two messages with rows


@dataclass(frozen=True)
class Part:
    """What one record lacks of a fold."""

    identity: dict[str, Any]  # of the driver's journal
    versions: dict[str, str]
    done: frozenset[int]  # episodes

    @classmethod
    def of(cls, job: Job, fold: int) -> Part:
        """What the driver's job lacks."""
        return cls(job.identity, job.plan.environment.versions, job.done_of(fold))


@dataclass(frozen=True)
class Episodes:
    """Goes to a node: the methods of `request` on one fold."""

    request: RunRequest
    parts: tuple[Part | None, ...]  # of each method and number of shots, in the order of `jobs_of`; None: not asked for
    fold: int
    device: str
    folder: Path  # where the driver runs, so that paths mean the same

    def carry_out(self, post: Post, parcels: dict[str, Parcel]) -> None:
        """Evaluate what lacks, journal it here, and post each step's sealed line.

        Raises `RecordError` where code, bank, weights or device are not the driver's.
        """
        with inside(self.folder), ExitStack() as stack:
            settings = replace(self.request.settings, device=pick_device(self.device))
            key = [self.fold, [part and part.identity for part in self.parts]]
            name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
            folder = local_folder() / "runs" / name
            bank = stack.enter_context(open_bank(found(self.request.bank, parcels)))
            request = replace(self.request, settings=settings, out=folder, force=False)
            sender = _Sender(post)
            jobs: dict[int, Job] = {}
            plan = _planned(bank, request)
            for number, (job, part) in enumerate(zip(jobs_of(plan), self.parts, strict=True)):
                if part is not None:
                    _check(job, part)
                    job.leave_out(self.fold, part.done)
                    jobs[number] = job
            begin(list(jobs.values()), stack, sender)
            for number, job in jobs.items():
                sender.follow(job, number)
            sender.flush()
            with numerics(settings.device, settings.precision):
                for group in grouped(self.fold, list(jobs.values())):
                    shots = sorted({job.shot for _, same in group for job in same})
                    evaluate_group(plan, self.fold, shots, group, sender)
            sender.end(jobs)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """In the driver's folder, where this node has it; else where Ray put the process."""
    before = Path.cwd()
    if folder.is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def found(path: Path, parcels: dict[str, Parcel]) -> Path:
    """The file on this node, by its path or as it was sent. Raises `NotThereError`."""
    if path.exists():
        return path
    if str(path) not in parcels:
        raise NotThereError(str(path))
    return unpack(parcels[str(path)])


def _planned(bank: Bank, request: RunRequest) -> RunPlan:
    try:
        return plan_run(bank, request, _Silent().say)
    except MethodError as error:  # the driver could build it
        raise RecordError(f"{error} The driver's machine has it: bring the node to its state.") from error


def _check(job: Job, part: Part) -> None:
    expected, here = {**part.identity, **part.versions}, {**job.identity, **job.plan.environment.versions}
    names = [name for name, value in expected.items() if here.get(name) != value]
    if names:
        differing = "; ".join(f"{name}: expected {expected[name]}, found {here.get(name)}" for name in names)
        raise RecordError(
            f"this node would give another record than the driver's. {differing} (revision here: "
            f"{job.plan.environment.git_revision}). Bring the node to the driver's state, or leave it out."
        )


class _Silent:
    def total(self, episodes: int, done: int) -> None:
        """Nothing."""

    def advance(self, episodes: int) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing: the driver has said it."""


class _Sender(_Silent):
    """Posts the lines of the journals that it follows, some at a time."""

    def __init__(self, post: Post) -> None:
        self._post, self._lines, self._sent = post, list[tuple[int, bytes]](), time.monotonic()

    def follow(self, job: Job, number: int) -> None:
        """What the journal held already, from a task that was killed here, and everything from now on."""
        if job.journal is None:
            raise RuntimeError("a job's record is never finished on a node")
        for line in job.journal.steps():
            self._add(number, line)
        job.journal.told = lambda line: self._add(number, line)

    def _add(self, number: int, line: bytes) -> None:
        self._lines.append((number, line))
        if time.monotonic() - self._sent > _EVERY:
            self.flush()

    def flush(self) -> None:
        """Post what waits."""
        if self._lines:
            self._post(("lines", self._lines))
        self._lines, self._sent = [], time.monotonic()

    def say(self, message: str) -> None:
        """To the driver's user."""
        self._post(("say", message))

    def end(self, jobs: Mapping[int, Job]) -> None:
        """The rest, what it took, and which methods failed."""
        self.flush()
        for number, job in jobs.items():
            self._post(("seconds", number, job.seconds))
            if job.error is not None:
                self._post(("failed", number, str(job.error)))


class Group(Work):
    """The driver's side: rows go to the journals of the records, which were begun there."""

    kind = "run"

    def __init__(
        self, request: RunRequest, jobs: Sequence[Job | None], fold: int, device: str, say: Any, advance: Any
    ) -> None:
        """`jobs`: of each of the request's methods and shots, as `jobs_of` orders them; None where nothing lacks."""
        super().__init__()
        self._request, self._jobs, self._fold, self._device = request, list(jobs), fold, device
        self._asked = [job for job in jobs if job is not None]
        self._say, self._advance = say, advance
        self.name = f"{'+'.join(dict.fromkeys(job.name for job in self._asked))}, fold {fold}"
        self._total = self._left()

    def payload(self) -> Episodes:
        """What is not in the journals."""
        if self.share:
            for job in self._asked:
                job.forget_seconds()
        parts = tuple(
            Part(job.identity, job.plan.environment.versions, job.done_of(self._fold))
            if job and not job.error
            else None
            for job in self._jobs
        )
        return Episodes(self._request, parts, self._fold, self._device, Path.cwd())

    def take(self, message: Any, host: str) -> None:
        """Lines, seconds, a failure or a remark of a node."""
        what, *values = message
        if what == "lines":
            for number, line in values[0]:
                self._advance(self._job(number).merge(line, host))
            self.share = 1 - self._left() / max(1, self._total)
        elif what == "say":
            self._say(*values)
        else:
            number, value = values
            job = self._job(number)
            if what == "failed":
                job.error = job.error or MethodError(value)
            else:
                for phase, seconds in value.items():
                    job.seconds[phase] = job.seconds.get(phase, 0.0) + seconds

    def complete(self) -> bool:
        """Every episode of every method that did not fail."""
        return not self._left()

    def fail(self, message: str) -> None:
        """All of its methods that lack anything."""
        for job in filter(self._lacks, self._asked):
            job.error = MethodError(message)

    def parts(self) -> list[Work]:
        """A task a method."""
        specs = list(self._request.methods)
        per = len(self._jobs) // len(specs)
        alone = [(spec, self._jobs[i * per : (i + 1) * per]) for i, spec in enumerate(specs)]
        open_ = [(spec, jobs) for spec, jobs in alone if any(job and self._lacks(job) for job in jobs)]
        if len(open_) < 2:
            return []
        cut = [
            Group(replace(self._request, methods=[spec]), jobs, self._fold, self._device, self._say, self._advance)
            for spec, jobs in open_
        ]
        for part in cut:
            part.ended = self.ended
        return list(cut)

    def _job(self, number: int) -> Job:
        job = self._jobs[number]
        if job is None:
            raise RuntimeError("a node handed back what it was not asked for")
        return job

    def _left(self) -> int:
        return sum(len(job.pending(self._fold)) for job in self._asked if job.error is None)

    def _lacks(self, job: Job) -> bool:
        return job.error is None and bool(len(job.pending(self._fold)))
