"""How fast a method runs on a bank, and how far that is from what the work itself costs.

The floor is the work that a benchmark cannot do without: each distinct image through the encoder once, each distinct
support label through `encode_support` once, each episode through the head once, each timed alone at its best batch
size. The ratio of the whole run to that floor is what decoding, caching, resizing, scoring and writing cost.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fssbench.engine.assemble import assemble
from fssbench.engine.clock import Clock
from fssbench.engine.devices import describe, numerics
from fssbench.engine.evaluate import Contender, Counted, Report, Settings, evaluate_fold, inputs_of, placed, segmented
from fssbench.engine.features import Inputs, Maker
from fssbench.engine.memory import peak_memory
from fssbench.engine.needs import Key, MapKey, Picture, PooledKey, needs_of
from fssbench.engine.sources import BankImages
from fssbench.engine.steps import plan_steps
from fssbench.errors import FssbenchError
from fssbench.method import Features, Method, SupportBatch

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes

BATCHES = (1, 2, 4, 8, 16)
TRIES = 3
LOSS = 1.05  # of time by a larger batch, from which none larger is tried: less may be noise
EPISODES = 8  # that the head is timed on

Work = tuple[int, Callable[[], object]]  # for so many items


@dataclass(frozen=True)
class Speed:
    """Seconds; `floor` and `ratio` as the module says. `off` scales a sample of episodes to all of them."""

    device: str
    fold: int
    episodes: int
    shots: list[int]
    distinct_images: int
    distinct_supports: int
    total: float
    phases: dict[str, float]
    episodes_per_second: float
    encode_each: float
    pool_each: float
    head_each: dict[int, float]
    floor: float
    ratio: float
    cache_peak_bytes: int
    peak_memory_bytes: int  # of process or GPU, after the run with the cache and before anything else is timed
    off: dict[int, float]  # shot -> seconds for all episodes with the cache off
    on: dict[int, float]  # shot -> seconds for all episodes of that shot alone, cache on
    off_counts_equal: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class _Takes:
    """Keeps the counts of a run in memory."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self.counts: dict[tuple[int, int], NDArray[np.int64]] = {}

    def contender(self, name: str, method: Method, shots: Sequence[int]) -> Contender:
        return Contender(name, method, shots, lambda fold, shot: self.rows, self._take)

    def _take(self, fold: int, shot: int, rows: Sequence[Counted]) -> None:
        for episode, counts, _ in rows:
            self.counts[shot, episode] = counts


def measure(
    bank: Bank,
    fold: int,
    name: str,
    method: Method,
    shots: Sequence[int],
    settings: Settings,
    episodes: int | None = None,
    off_episodes: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> Speed:
    """Run a fold (or its first `episodes`), with the cache and without, and time the parts alone."""
    whole = bank.episodes(fold, max(shots))
    drawn = _some(whole, np.arange(min(episodes or len(whole.query), len(whole.query))))
    rows = np.arange(len(drawn.query))
    placed(method, settings)
    settings = replace(settings, exact_times=True)
    if settings.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
    with numerics(settings.device, settings.precision):
        _warm_up(bank, fold, name, method, drawn, settings)
        total, report, taken = _timed(bank, fold, drawn, name, method, shots, settings, advance)
        peak = peak_memory(settings.device)
        on, off, equal = {}, {}, True
        some = np.sort(np.random.default_rng(0).permutation(rows)[:off_episodes])
        sample = _some(drawn, some)
        for shot in shots:
            on[shot] = total if len(shots) == 1 else _timed(bank, fold, drawn, name, method, [shot], settings)[0]
            uncached = replace(settings, cache=False)
            seconds, _, again = _timed(bank, fold, sample, name, method, [shot], uncached)
            off[shot] = seconds * len(rows) / max(1, len(some))
            equal &= all(
                np.array_equal(again.counts[shot, i], taken.counts[shot, row]) for i, row in enumerate(some.tolist())
            )
        inputs = inputs_of(bank, BankImages(bank, settings.annotation), settings, Clock(settings.device))
        with contextlib.closing(inputs):
            parts = _Parts(method, drawn, settings, inputs)
            encode, pool = parts.encode_each(), parts.pool_each()
            heads = {shot: parts.head_each(shot) for shot in shots}
    floor = parts.images * encode + parts.supports * pool + len(rows) * sum(heads.values())
    return Speed(
        device=describe(settings.device),
        fold=fold,
        episodes=len(rows),
        shots=list(shots),
        distinct_images=parts.images,
        distinct_supports=parts.supports,
        total=total,
        phases={**report.clock.seconds, "rest": max(0.0, total - sum(report.clock.seconds.values()))},
        episodes_per_second=len(rows) * len(shots) / total,
        encode_each=encode,
        pool_each=pool,
        head_each=heads,
        floor=floor,
        ratio=total / floor,
        cache_peak_bytes=report.store.peak_bytes,
        peak_memory_bytes=peak,
        off=off,
        on=on,
        off_counts_equal=equal,
    )


def _timed(
    bank: Bank,
    fold: int,
    drawn: Episodes,
    name: str,
    method: Method,
    shots: Sequence[int],
    settings: Settings,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[float, Report, _Takes]:
    takes = _Takes(np.arange(len(drawn.query)))
    contender = takes.contender(name, method, shots)
    start = time.perf_counter()
    report = evaluate_fold(bank, fold, drawn, [contender], settings, advance)
    seconds = time.perf_counter() - start
    if contender.error is not None:
        raise contender.error if isinstance(contender.error, FssbenchError) else RuntimeError(str(contender.error))
    return seconds, report, takes


def _warm_up(bank: Bank, fold: int, name: str, method: Method, drawn: Episodes, settings: Settings) -> None:
    _timed(bank, fold, _some(drawn, np.arange(min(2, len(drawn.query)))), name, method, [1], settings)


def _some(episodes: Episodes, rows: NDArray[np.int64]) -> Episodes:
    """A part of the episodes, in their order."""
    parts = {f.name: getattr(episodes, f.name) for f in fields(episodes)}
    return replace(episodes, **{name: value[rows] for name, value in parts.items() if value is not None})


class _Parts:
    """The parts of the floor, each timed alone on the run's own images and episodes."""

    def __init__(self, method: Method, drawn: Episodes, settings: Settings, inputs: Inputs) -> None:
        self._method, self._drawn, self._settings, self._inputs = method, drawn, settings, inputs
        needs = needs_of(0, method, drawn, np.arange(len(drawn.query)), drawn.support.shape[2])
        keys = list(dict.fromkeys(needs.all))
        self._pooled = [key for key in keys if isinstance(key, PooledKey)]
        encoded = [key.picture for key in keys if method.encodes_support or isinstance(key, MapKey)]
        self._pictures = list(dict.fromkeys(encoded))
        self.images, self.supports = len(self._pictures), len(self._pooled)

    def encode_each(self) -> float:
        """Seconds an image in the encoder, at the best batch size."""
        pixels = self._inputs.pixels(self._pictures[:1])

        def encoder(batch: int) -> Iterator[Work]:
            images = _repeated(pixels, batch).contiguous(memory_format=self._inputs.memory_format)
            yield batch, lambda: self._method.encode(images)

        return self._best(encoder, BATCHES)

    def pool_each(self) -> float:
        """Seconds a support in `encode_support`; 0 where the method has none."""
        if not self.supports:
            return 0.0
        key = self._pooled[0]
        pixels = self._inputs.pixels([key.picture])
        label = self._inputs.support_labels([key.support], key.picture.how)
        features = self._method.encode(pixels) if self._method.encodes_support else {}

        def pooling(batch: int) -> Iterator[Work]:
            many = {name: _repeated(value, batch) for name, value in features.items()}
            supports = SupportBatch(many, _repeated(label, batch), lambda: _repeated(pixels, batch))
            yield batch, lambda: self._method.encode_support(supports)

        return self._best(pooling, (1, 2, 4))

    def head_each(self, shot: int) -> float:
        """Seconds an episode in `segment`, at the best batch size, of episodes from all over the run.

        Not of one episode many times: the work of many heads depends on the size of the objects.
        """
        count = len(self._drawn.query)
        some = _some(self._drawn, np.arange(min(count, EPISODES)) * count // min(count, EPISODES))
        made: dict[Key, Features] = {}
        keys = dict.fromkeys(needs_of(0, self._method, some, np.arange(len(some.query)), shot).all)
        Maker([self._method], self._inputs, 1, lambda _: None).make([[key] for key in keys], made.__setitem__)

        def shape(image: int) -> tuple[int, int]:
            return self._inputs.shape(Picture(image, self._method.query_input))

        def heads(batch: int) -> Iterator[Work]:
            for rows in plan_steps(some, batch, shape):
                needs, size = needs_of(0, self._method, some, rows, shot), (len(rows), some.classes.shape[1], shot)
                episodes = assemble(self._method, needs, made, size, self._inputs)
                yield len(rows), partial(segmented, self._method, episodes)

        return self._best(heads, (1, 2, 4, 8))

    def _best(self, prepared: Callable[[int], Iterable[Work]], batches: Sequence[int]) -> float:
        """Seconds an item at the best batch size; larger ones are tried while they gain.

        `prepared` gets everything ready for a batch; only what it gives, with the number of items, is timed.
        """
        best = float("inf")
        for batch in batches:
            items, seconds = 0, 0.0
            for number, work in prepared(batch):
                seconds += self._seconds(work, 2 * best * number)
                items += number
            if seconds / items > LOSS * best:
                break
            best = min(best, seconds / items)
        return best

    def _seconds(self, work: Callable[[], object], slow: float) -> float:
        """The median of a few tries, as machines are noisy; of one where that is slow."""
        tries: list[float] = []
        for _ in range(1 + TRIES):  # the first warms up
            start = time.perf_counter()
            work()
            if self._settings.device.type == "cuda":
                torch.cuda.synchronize(self._settings.device)
            tries.append(time.perf_counter() - start)
            if tries[-1] > slow:
                break
        return statistics.median(tries[1:] or tries)


def _repeated(value: torch.Tensor, count: int) -> torch.Tensor:
    """One item as `count` of them, in the memory of one."""
    return value.expand(count, *value.shape[1:])
