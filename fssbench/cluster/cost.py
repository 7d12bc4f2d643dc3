"""What a sweep costs on so many devices, from what was measured on one: parts of records, and steps of trainings.

A model on paper. A run takes its episodes times what one took in this method's records under the sweep's `out`; a
training takes what this method's trainings under its `checkpoints` took by their TensorBoard events. What was never
measured takes what the median method does, and is counted. Imports neither Ray nor torch.
"""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fssbench.names import plain_name
from fssbench.records import Run, find_records, read_run
from fssbench.training.folders import checkpoint_folder
from fssbench.training.sweep import Sweep, Task, checkpoints

EPISODES = 1000  # a fold, where neither the file nor a bank says
_UNEVEN, _LOST, _READS = 1.2, 0.1, 200e6  # over an even split; of all time; bytes a second


@dataclass(frozen=True)
class Job:
    """One task of a device: seconds, those of them that encode, and bytes read from a bank."""

    name: str
    seconds: float
    encode: float = 0.0
    reads: float = 0.0
    after: tuple[str, ...] = ()  # names of jobs that end before
    shared: str = ""  # jobs with one name here could have encoded together


@dataclass(frozen=True)
class Estimate:
    """Jobs on so many devices."""

    devices: int
    seconds: float  # until the last has ended
    busy: float  # share of the devices' time
    bottleneck: str


@dataclass(frozen=True)
class Cost:
    """What a sweep takes, and how sure that is."""

    jobs: tuple[Job, ...]
    device: str  # that the parts were measured on
    measured: int  # jobs whose method was measured


def cost_of(sweep: Sweep, tasks: Sequence[Task]) -> Cost | None:
    """The jobs that these tasks of a sweep make on a cluster; None where nothing was ever measured."""
    records = [read_run(folder) for folder in find_records(sweep.out)] if sweep.out.exists() else []
    runs = {method: _an_episode(records, method) for method in sweep.every_method}
    trainings = {method: _a_training(sweep, method) for method in sweep.methods}
    known_runs = [parts for parts in runs.values() if parts]
    known_trainings = [seconds for seconds in trainings.values() if seconds]
    if not known_runs:
        return None
    usual = statistics.median(all_of_it for all_of_it, _ in known_runs), statistics.median(e for _, e in known_runs)
    usual_training = statistics.median(known_trainings) if known_trainings else 0.0
    jobs, measured = [], 0
    for task in tasks:
        if task.kind == "bank":
            continue
        if task.kind == "train":
            seconds = trainings[task.method] or usual_training
            jobs.append(Job(str(task), seconds))
            measured += trainings[task.method] is not None
            continue
        all_of_it, encode = runs[task.method] or usual
        episodes = (task.data.episodes or EPISODES) * len(sweep.shots)
        bank = task.data.bank
        reads = bank.stat().st_size / len(task.data.folds) if bank.exists() else 0.0
        trained = [other for other in tasks if other.kind == "train" and task.weights is not None
                   and (other.data, other.method, other.seed) == (task.data, task.method, task.seed)]  # fmt: skip
        for fold in task.folds:
            jobs.append(Job(
                f"{task}: fold {fold}", all_of_it * episodes, encode * episodes, reads,
                tuple(map(str, trained)), f"{task.data.dataset} {fold}",
            ))  # fmt: skip
            measured += runs[task.method] is not None
    devices = sorted({run.environment.device for run in records})
    return Cost(tuple(jobs), " and ".join(devices), measured)


def _an_episode(records: Iterable[Run], method: str) -> tuple[float, float] | None:
    """Seconds of an episode at one number of shots, and those of them that encode."""
    found = [run for run in records if run.method.name == plain_name(method) and run.seconds]
    episodes = sum(run.scores(Path(run.id)).episodes for run in found)
    if not episodes:
        return None
    return (
        sum(sum(run.seconds.values()) for run in found) / episodes,
        sum(run.seconds.get("encode", 0.0) for run in found) / episodes,
    )


def _a_training(sweep: Sweep, method: str) -> float | None:
    """Seconds of a training: the median of its finished ones. None where none has left its steps' times."""
    found = []
    for data in sweep.data:
        for seed in sweep.seeds_on(data):
            folder = checkpoints(sweep, data, seed)
            of_folds = [checkpoint_folder(folder, method, sweep.backbone, data.dataset, fold) for fold in data.folds]
            found += [taken for each in of_folds if (each / "last.safetensors").exists() and (taken := _taken(each))]
    return statistics.median(found) if found else None


def _taken(folder: Path) -> float:
    """Seconds of all steps: of each stage, their number times the median step, which pauses do not change."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return 0.0
    total = 0.0
    for stage in sorted((folder / "events").glob("*")):
        events = EventAccumulator(str(stage), size_guidance={"scalars": 0})
        events.Reload()
        if "loss" in events.Tags()["scalars"]:
            times = [event.wall_time for event in events.Scalars("loss")]
            steps = [later - earlier for earlier, later in itertools.pairwise(times)]
            total += len(times) * statistics.median(steps) if steps else 0.0
    return total


def estimate(jobs: Sequence[Job], devices: int) -> Estimate:
    """The jobs on so many devices, the longest of those that can begin first, and what keeps them from being quicker.

    >>> estimate([Job("a", 30.0), Job("b", 10.0), Job("c", 5.0)], 2)
    Estimate(devices=2, seconds=30.0, busy=0.75, bottleneck='the longest chain: a')
    """
    total = sum(job.seconds for job in jobs)
    ends: dict[str, float] = {}
    free = [0.0] * devices
    waiting = list(jobs)
    while waiting:
        begins = heapq.heappop(free)
        known = {job.name: max((ends.get(name, float("inf")) for name in job.after), default=0.0) for job in waiting}
        soonest = max(begins, min(known.values()))
        job = max((job for job in waiting if known[job.name] <= soonest), key=lambda job: job.seconds)
        waiting.remove(job)
        ends[job.name] = soonest + job.seconds
        heapq.heappush(free, ends[job.name])
    seconds = max(ends.values(), default=0.0)
    return Estimate(devices, seconds, total / (devices * seconds) if seconds else 1.0, _bottleneck(jobs, ends, devices))


def _bottleneck(jobs: Sequence[Job], ends: dict[str, float], devices: int) -> str:
    total, seconds = sum(job.seconds for job in jobs), max(ends.values(), default=0.0)
    if not seconds:
        return "nothing"
    if seconds > _UNEVEN * total / devices:
        last = max(jobs, key=lambda job: ends[job.name])
        return f"the longest chain: {last.name}"
    rate = sum(job.reads for job in jobs) / seconds
    if rate > _READS:
        return f"bank reads, {rate / 1e6:.0f} MB/s"
    lost = _encoded_again(jobs)
    if lost > _LOST * total:
        return f"images encoded again by tasks apart, {100 * lost / total:.0f} % of the time"
    dearest = max(jobs, key=lambda job: job.seconds)
    return f"the work itself, most of it {dearest.name}"


def _encoded_again(jobs: Sequence[Job]) -> float:
    """Seconds of encoding beyond one pass over each fold's images."""
    by_fold: dict[str, list[float]] = {}
    for job in jobs:
        if job.shared:
            by_fold.setdefault(job.shared, []).append(job.encode)
    return sum(sum(each) - max(each) for each in by_fold.values())


def cost_lines(sweep: Sweep, tasks: Sequence[Task], devices: Sequence[int] = (1, 8, 64)) -> list[str]:
    """A table for the terminal: hours on so many devices, and the bottleneck."""
    cost = cost_of(sweep, tasks)
    if cost is None:
        return [f"cost: nothing measured yet under {sweep.out}"]
    unsure = len(cost.jobs) - cost.measured
    lines = [
        f"cost, from parts measured on {cost.device}" + (f"; {unsure} of {len(cost.jobs)} tasks by the median method"
                                                         if unsure else ""),
        f"{'devices':>7}  {'hours':>8}  {'device hours':>12}  {'busy':>5}  bottleneck",
    ]  # fmt: skip
    for count in devices:
        found = estimate(cost.jobs, count)
        hours = found.seconds / 3600
        lines.append(
            f"{count:>7}  {hours:>8.2f}  {hours * count:>12.2f}  {100 * found.busy:>4.0f}%  {found.bottleneck}"
        )
    return lines
