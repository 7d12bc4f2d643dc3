"""`fssbench run --dry-run`: what a run would do, from which weights, and how long by the last measured speed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fssbench.banks.bank import open_bank
from fssbench.engine.job import Job, Progress
from fssbench.engine.journal import Journal, same_run
from fssbench.engine.plan import RunRequest, plan_run
from fssbench.engine.run import jobs_of
from fssbench.errors import RecordError
from fssbench.records import Run, find_records, read_run


@dataclass(frozen=True)
class Outlook:
    """One record that a run would make; `seconds` None where nothing like it was measured."""

    method: str
    shot: int
    folder: Path
    state: str  # "finished", "begun", "new"
    weights: dict[int, str]  # by fold
    episodes: int  # still to do
    done: int
    seconds: float | None
    speed: float | None  # episodes a second
    measured_in: str  # the record whose speed it is

    def __str__(self) -> str:
        if self.state == "finished":
            return f"{self.folder}: finished already; --force runs it again"
        by_weights: dict[str, list[str]] = {}
        for fold, where in self.weights.items():
            by_weights.setdefault(where, []).append(str(fold))
        weights = "; ".join(f"fold {', '.join(folds)}: {where}" for where, folds in by_weights.items())
        on = f" after {self.done}" if self.done else ""
        pace = "no speed measured yet"
        if self.seconds is not None:
            left = timedelta(seconds=round(self.seconds))
            pace = f"about {left} at {self.speed:.1f} episodes/s ({self.measured_in})"
        return f"{self.folder}: {self.episodes} episodes{on}, {pace}\n  weights of {weights}"


def outlook(request: RunRequest, progress: Progress) -> list[Outlook]:
    """Every record of a request, in the order of the run. Writes nothing; raises what the run would raise."""
    measured = list(_measured(request.out))
    with open_bank(request.bank) as bank:
        return [_outlook(job, request.force, measured) for job in jobs_of(plan_run(bank, request, progress.say))]


def _outlook(job: Job, force: bool, measured: list[tuple[Run, float]]) -> Outlook:
    done = _done(job, force)
    finished = (job.folder / "run.json").exists() and not force and not (job.folder / "journal").exists()
    episodes = 0 if finished else job.episodes_to_do - done
    like = [(run, speed) for run, speed in measured if _alike(run, job)]
    like.sort(key=lambda one: (one[0].shot == job.shot, one[0].created))
    run, speed = like[-1] if like else (None, None)
    weights = {
        fold: f"{entry.path or entry.kind} ({entry.sha256[:8]})" for fold, entry in job.entrant.weights.items()
    }  # fmt: skip
    return Outlook(
        job.name, job.shot, job.folder, "finished" if finished else "begun" if done else "new", weights,
        episodes, done, episodes / speed if speed else None, speed, run.id if run else "",
    )  # fmt: skip


def _done(job: Job, force: bool) -> int:
    """Episodes in the journal, read from a copy: it may be in the hands of a run."""
    journal = job.folder / "journal"
    if not journal.exists() or (force and not same_run(journal, job.identity)):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        held = Journal(Path(shutil.copy(journal, folder)), job.identity)
        held.close()
        return len({(fold, episode) for fold, episode, _ in held.rows})


def _alike(run: Run, job: Job) -> bool:
    here = job.plan.environment
    return (run.method.name, run.backbone, run.way, run.environment.device, run.environment.precision) == (
        job.name, job.entrant.method.config.backbone, job.plan.bank.ways, here.device, here.precision,
    )  # fmt: skip


def _measured(root: Path) -> Iterable[tuple[Run, float]]:
    """Records with their own episodes a second; older ones hold the seconds of all jobs beside them."""
    for folder in find_records(root) if root.is_dir() else []:
        try:
            run = read_run(folder)
        except RecordError:
            continue
        seconds, episodes = sum(run.seconds.values()), run.summary.get("episodes")
        if run.parameters is not None and seconds > 0 and isinstance(episodes, int) and episodes > 0:
            yield run, episodes / seconds
