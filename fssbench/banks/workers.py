"""The same work on many things, by several processes: in order, few at a time, and alike however many there are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from fssbench.errors import DataError, UsageError
from fssbench.progress import Progress, quiet

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # items that travel together, unless said otherwise
_AHEAD = 3  # chunks for each process that are under way or wait to be taken: what bounds the memory
_WORTH = 256  # items for each process: below that starting it takes longer than it saves

_source: Any = None  # in a worker: what the work is done with


def spread(
    work: Callable[[S, T], R],
    source: S,
    items: Sequence[T],
    what: str,
    *,
    workers: int | None = 1,
    progress: Progress = quiet,
    part: Callable[[S, Sequence[T]], S] | None = None,
    chunk: int = CHUNK,
) -> Iterator[R]:
    """`work(source, item)` of every item, in order. `workers` None: as many processes as the work is worth.

    `chunk` items travel together: few where each is long.

    With several processes `work` is a function of a module, and everything travels by pickle: `source` once to each
    process, or, where `part(source, items)` is another object than `source`, with the items that it is the part for.
    What `work` raises is raised here, as if there were one process.

    Raises `UsageError` for fewer than 1 worker, `DataError` if a process dies or `source` cannot travel.
    """
    count = _processes(workers, len(items), chunk)
    if count == 1:
        for item in progress(items, what):
            yield work(source, item)
        return
    bar = iter(progress(items, what))
    next(bar, None)
    pool = _pool(count, source if part is None else part(source, ()))
    try:
        under_way: deque[Future[list[R]]] = deque()
        for start in range(0, len(items), chunk):
            these = items[start : start + chunk]
            own = source if part is None else part(source, these)
            under_way.append(pool.submit(_do, work, None if own is source else own, these))
            if len(under_way) > _AHEAD * count:
                yield from _shown(under_way.popleft().result(), bar)
        while under_way:
            yield from _shown(under_way.popleft().result(), bar)
    except BrokenProcessPool as error:
        raise DataError(
            f"{what}: expected {count} processes to the end, found one that was killed, most likely for want of "
            "memory. Use fewer by --workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _shown(results: Sequence[R], bar: Iterator[object]) -> Iterator[R]:
    """Results, each counted by the progress bar once it was taken."""
    for result in results:
        yield result
        next(bar, None)


def worthwhile(items: int, worth: int = _WORTH) -> int:
    """Processes for so many items: one a core, each with at least `worth` of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, items // worth))


def _processes(workers: int | None, items: int, chunk: int) -> int:
    if workers is None:
        return worthwhile(items)
    if workers < 1:
        raise UsageError(f"expected at least 1 worker, found {workers}. Change --workers.")
    return max(1, min(workers, -(-items // chunk)))


def _pool(count: int, source: object) -> ProcessPoolExecutor:
    """Fresh processes: a fork of this one would double its memory, and inherit what its threads and HDF5 hold."""
    try:
        packed = pickle.dumps(source)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise DataError(
            f"{type(source).__name__}: expected an object that can travel to other processes, found one that cannot "
            f"({error}). Leave out what cannot by __getstate__, or use --workers 1."
        ) from error
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start, (packed,))


def _start(packed: bytes) -> None:
    """Of a worker: it ends with its parent, however that ends, and leaves Ctrl-C to it."""
    global _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _source = pickle.loads(packed)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable[[Any, T], R], own: object, items: Sequence[T]) -> list[R]:
    return [work(_source if own is None else own, item) for item in items]
