"""Work on Ray: what is asked for, what came back, what is done again elsewhere."""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fssbench.cluster.connect import Ask
from fssbench.cluster.parcels import Parcel, pack
from fssbench.errors import FssbenchError, MethodError, UsageError

Post = Callable[[Any], None]  # hands something to the driver, from a node
_POLL, _TELL = 0.2, 5.0  # s


class NotThereError(Exception):
    """A node has no such file or folder; the driver sends it."""


class Payload(Protocol):
    """What goes to a node."""

    def carry_out(self, post: Post, parcels: dict[str, Parcel]) -> None:
        """Do it there. `MethodError`: the method's fault; any other `FssbenchError`: this node's."""


class Work(ABC):
    """One task, as the driver sees it. It may be carried out several times, until all of it came back."""

    name: str
    kind: str
    share = 0.0  # of it that came back, 0 to 1
    gpus: float | None = None  # instead of what is asked for all
    ended: Callable[[str], None]  # told once: why it failed, or nothing

    def __init__(self) -> None:
        self.ended = lambda why: None

    @abstractmethod
    def payload(self) -> Payload:
        """What is left to do."""

    @abstractmethod
    def take(self, message: Any, host: str) -> None:
        """Merge what a node posted."""

    @abstractmethod
    def complete(self) -> bool:
        """Whether all of it came back, asked when a node says that it is done."""

    @abstractmethod
    def fail(self, message: str) -> None:
        """It will not be tried again."""

    def parts(self) -> list[Work]:
        """The same in smaller tasks, none where it cannot be cut: so that what kills its process does so alone."""
        return []


@dataclass
class _Attempt:
    work: Work
    losses: int = 0  # in a row, without anything that came back
    deaths: int = 0  # in all
    memory: int | None = None
    begun: float | None = None  # when a node took it
    host: str = ""
    share: float = 0.0  # when it was handed to Ray


@dataclass
class Counts:
    """How often what happened; tests and the last line read it."""

    done: int = 0
    failed: int = 0
    lost: int = 0  # workers and nodes that died under a task
    refused: int = 0  # nodes that cannot take part
    split: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by kind, of tasks that ended
    ended: dict[str, int] = field(default_factory=dict)


def at_node(payload: Payload, queue: Any, number: int, parcels: dict[str, Parcel], cpus: float) -> tuple[str, str, str]:
    """Carry out a task on a node: how it ended (done, failed, refused, lacks), why, and the node."""
    import socket

    import ray
    import torch

    node = ray.get_runtime_context().get_node_id()
    torch.set_num_threads(max(1, int(cpus)))
    queue.put((number, "begun", socket.gethostname()))
    try:
        payload.carry_out(lambda message: queue.put((number, "came", message)), parcels)
    except MethodError as error:
        return "failed", str(error), node
    except FssbenchError as error:
        return "refused", f"{socket.gethostname()}: {error}", node
    except NotThereError as error:
        return "lacks", str(error), node
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return "refused", f"{socket.gethostname()}: {error}", node
    return "done", "", node


class Schedule:
    """Tasks on a cluster. `add` whenever there is something to do, also while `run` goes on."""

    def __init__(self, ray: Any, ask: Ask, say: Callable[[str], None]) -> None:
        from ray.util.queue import Queue

        self.counts = Counts()
        self._ray, self._ask, self._say = ray, ask, say
        self._queue = Queue(actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
        self._remote = ray.remote(max_retries=0)(at_node)
        self._gpus = ask.gpus if ask.gpus is not None else float("GPU" in ray.cluster_resources())
        self._running: dict[Any, int] = {}  # Ray's reference -> attempt
        self._attempts: dict[int, _Attempt] = {}
        self._refused: dict[str, str] = {}  # node -> why
        self._parcels: dict[str, Parcel] = {}
        self._told = 0.0
        self._waits = False

    @property
    def gpus_of_a_node(self) -> int:
        """Of the largest; 0 where tasks ask for none."""
        nodes = [node["Resources"].get("GPU", 0) for node in self._ray.nodes() if node["Alive"]]
        return int(max(nodes, default=0)) if self._gpus else 0

    def add(self, works: Iterable[Work]) -> None:
        """Hand tasks to Ray, which carries them out as it has room."""
        for work in works:
            self._submit(_Attempt(work, memory=self._ask.memory))

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives on some node, with what a task asks for."""
        self._check_room(self._gpus, self._ask.cpus, self._ask.memory)
        remote = self._ray.remote(num_gpus=self._gpus, num_cpus=self._ask.cpus)(function)
        return self._ray.get(remote.remote(*arguments))

    def run(self) -> None:
        """Until everything that was added is done or has failed. Raises `UsageError` where no node can take part."""
        try:
            while self._running:
                ready, _ = self._ray.wait(list(self._running), timeout=_POLL)
                self._drain()  # before the ends: all that a task posted is there when it ends
                for reference in ready:
                    self._end(reference)
                self._tell(bool(ready))
        except BaseException:
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            raise
        finally:
            if not self._running:
                self._tell(True, last=True)

    def close(self) -> None:
        """The queue's process is not needed any more."""
        self._queue.shutdown()

    def _submit(self, attempt: _Attempt) -> None:
        work, number = attempt.work, len(self._attempts)
        gpus = self._gpus if work.gpus is None else work.gpus
        cpus = self._ask.cpus
        options: dict[str, Any] = {"num_gpus": gpus, "num_cpus": cpus, "name": work.name}
        if attempt.memory is not None:
            options["memory"] = attempt.memory
        if self._refused:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._refused)})"}
        attempt.begun, attempt.share = None, work.share
        self._attempts[number] = attempt
        self._check_room(gpus, cpus, attempt.memory)
        sent = self._remote.options(**options).remote(work.payload(), self._queue, number, self._parcels, cpus)
        self._running[sent] = number

    def _check_room(self, gpus: float, cpus: float, memory: int | None) -> None:
        """Say, once, that nothing can take a task now; without hope (`local`, or all refused) it is an error."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        fit = [node for node in alive if all(
            node["Resources"].get(name, 0) >= asked
            for name, asked in (("GPU", gpus), ("CPU", cpus), ("memory", memory or 0)))]  # fmt: skip
        if any(node["NodeID"] not in self._refused for node in fit):
            return
        asked = f"{gpus:g} GPUs, {cpus:g} CPUs" + (f", {memory >> 20} MiB" if memory else "")
        if fit:
            raise UsageError("no node of the cluster can take part: " + "; ".join(self._refused.values()))
        if self._ask.address == "local":
            raise UsageError(f"a task asks for {asked}, which is more than this machine has; see --gpus-per-task.")
        if not self._waits:
            self._say(f"no node of the cluster has {asked} now: waiting for one (see --gpus-per-task)")
        self._waits = True

    def _drain(self) -> None:
        count = self._queue.qsize()
        for number, what, value in self._queue.get_nowait_batch(count) if count else ():
            attempt = self._attempts[number]
            if what == "begun":
                attempt.begun, attempt.host = time.monotonic(), value
            else:
                attempt.work.take(value, attempt.host)

    def _end(self, reference: Any) -> None:
        attempt = self._attempts[self._running.pop(reference)]
        work = attempt.work
        try:
            state, why, node = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", error)
            if not isinstance(cause, MemoryError):
                self._fail(attempt, f"{type(cause).__name__}: {cause}")
                return
            self._lost(attempt, "ran out of memory", more_memory=True)
            return
        except self._ray.exceptions.RayError as error:
            memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
            first = str(error).strip().partition("\n")[0]
            self._lost(attempt, f"was lost ({type(error).__name__}: {first[:200]})", more_memory=memory)
            return
        if state == "done" and work.complete():
            self.counts.done += 1
            self.counts.ended[work.kind] = self.counts.ended.get(work.kind, 0) + 1
            spent = time.monotonic() - attempt.begun if attempt.begun else 0.0
            self.counts.seconds[work.kind] = self.counts.seconds.get(work.kind, 0.0) + spent
            work.ended("")
        elif state == "done":
            self._lost(attempt, "did not hand back all of its work")
        elif state == "failed":
            self._fail(attempt, why)
        elif state == "lacks":
            if why not in self._parcels:
                self._say(f"{why} is not there on {attempt.host}: sending it")
                self._parcels[why] = pack(self._ray, Path(why))
            self._submit(attempt)
        else:
            if node not in self._refused:
                self.counts.refused += 1
                self._say(f"refused node {why}")
            self._refused[node] = why
            self._submit(attempt)

    def _lost(self, attempt: _Attempt, how: str, *, more_memory: bool = False) -> None:
        self.counts.lost += 1
        work = attempt.work
        attempt.losses = 1 if work.share > attempt.share else attempt.losses + 1
        attempt.deaths += 1
        if more_memory:
            attempt.memory = self._more_memory(attempt.memory)
        # Company may come forward while one method kills them all, so that each death counts.
        if attempt.deaths > self._ask.retries and (parts := work.parts()):
            self.counts.split += 1
            self._say(f"{work.name} {how}; its methods apart")
            for part in parts:
                self._submit(_Attempt(part, memory=attempt.memory))
        elif attempt.losses <= self._ask.retries:
            self._say(f"{work.name} {how}; again")
            self._submit(attempt)
        else:
            self._fail(attempt, f"{work.name} {how}, {attempt.losses} times in a row")

    def _more_memory(self, asked: int | None) -> int:
        """Twice as much, first half of the largest node: in the end a task has a node to itself."""
        largest = int(max(n["Resources"].get("memory", 0) for n in self._ray.nodes() if n["Alive"]))
        return min(2 * asked if asked else largest // 2, largest)

    def _fail(self, attempt: _Attempt, why: str) -> None:
        self.counts.failed += 1
        attempt.work.fail(why)
        attempt.work.ended(why)

    def _tell(self, news: bool, *, last: bool = False) -> None:
        now = time.monotonic()
        if not news or (now - self._told < _TELL and not last):
            return
        self._told = now
        under_way = [self._attempts[number] for number in self._running.values()]
        running = [attempt for attempt in under_way if attempt.begun is not None]
        left = self._left(under_way, running, now)
        self._say(
            f"tasks: {self.counts.done} done, {len(running)} running, {len(under_way) - len(running)} waiting, "
            f"{self.counts.failed} failed" + (f"; {timedelta(seconds=round(left))} left" if left is not None else "")
        )

    def _left(self, under_way: list[_Attempt], running: list[_Attempt], now: float) -> float | None:
        """Seconds: each kind's tasks take what those before them took, as many at a time as now."""
        total = 0.0
        for kind in {attempt.work.kind for attempt in under_way}:
            spent, made = self.counts.seconds.get(kind, 0.0), float(self.counts.ended.get(kind, 0))
            for attempt in running:
                if attempt.work.kind == kind and attempt.begun is not None:
                    spent, made = spent + now - attempt.begun, made + attempt.work.share - attempt.share
            if made <= 0:
                return None
            total += sum(1 - attempt.work.share for attempt in under_way if attempt.work.kind == kind) * spent / made
        return total / max(1, len(running)) if under_way else None
