"""How fast a method runs on a bank, and how far that is from what the work itself costs.

The floor is the work that a benchmark cannot do without: each distinct image through the encoder once, each distinct
support label through `encode_support` once, each episode through the head once, each timed alone at its best batch
size. The ratio of the whole run to that floor is what decoding, caching, resizing, scoring and writing cost.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fssbench.engine.devices import describe, numerics
from fssbench.engine.evaluate import Contender, Counted, Report, Settings, evaluate_fold, placed
from fssbench.engine.inputs import fit_label, normalise, read_pixels
from fssbench.engine.memory import peak_memory
from fssbench.engine.sources import BankImages
from fssbench.engine.steps import distinct, other_classes
from fssbench.errors import FssbenchError
from fssbench.method import OBJECT, EpisodeBatch, Features, Method, Preprocess, SupportBatch

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes

BATCHES = (1, 2, 4, 8, 16)
TRIES = 5
SUPPORTS = 64  # that the usual one is looked for among

Work = Callable[[], object]


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
        parts = _Parts(bank, method, drawn, rows, settings)
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


def _usual_support(
    images: BankImages, drawn: Episodes, how: Preprocess, device: torch.device
) -> tuple[int, torch.Tensor]:
    """The support whose object is of median size at the network's input, 1 x H x W: heads' work may follow from it."""
    first = zip(drawn.support[:, 0, 0].tolist(), drawn.classes[:, 0].tolist(), strict=True)
    labels = {key: fit_label(images.support_codes(*key, ()), how) for key in list(dict.fromkeys(first))[:SUPPORTS]}
    by_size = sorted(labels, key=lambda key: int((labels[key] == OBJECT).sum()))
    usual = by_size[len(by_size) // 2]
    return usual[0], labels[usual][None].to(device)


class _Parts:
    """The parts of the floor, each timed alone on the bank's own images."""

    def __init__(
        self, bank: Bank, method: Method, drawn: Episodes, rows: NDArray[np.int64], settings: Settings
    ) -> None:
        self._method, self._settings = method, settings
        queries, supports = distinct(drawn.query[rows]), distinct(drawn.support[rows])
        seen = {(method.query_input, i) for i in queries}
        if method.encodes_support:
            seen |= {(method.support_input, i) for i in supports}
        self.images = len(seen)
        self.supports = 0
        if type(method).encode_support is not Method.encode_support:
            self.supports = len(
                {
                    (image, int(drawn.classes[row, way]), other_classes(drawn.classes[row].tolist(), way))
                    for row in rows.tolist()
                    for way in range(drawn.classes.shape[1])
                    for image in drawn.support[row, way].tolist()
                }
            )
        images = BankImages(bank, settings.annotation)
        self._image, self._label = _usual_support(images, drawn, method.support_input, settings.device)
        self._ways = int(drawn.classes.shape[1])
        self._layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self._query, self._support = (
            normalise(read_pixels(images, image, how)[None].to(settings.device), how).contiguous(
                memory_format=self._layout
            )
            for image, how in ((queries[0], method.query_input), (self._image, method.support_input))
        )

    def encode_each(self) -> float:
        """Seconds an image in the encoder, at the best batch size."""

        def encoder(batch: int) -> Work:
            images = self._query.expand(batch, -1, -1, -1).contiguous(memory_format=self._layout)
            return lambda: self._method.encode(images)

        return self._best(encoder)

    def pool_each(self) -> float:
        """Seconds a support in `encode_support`; 0 where the method has none."""
        if not self.supports:
            return 0.0
        features = self._support_features()

        def pooling(batch: int) -> Work:
            supports = self._support_batch(features, batch)
            return lambda: self._method.encode_support(supports)

        return self._best(pooling, (1, 2, 4))

    def head_each(self, shot: int) -> float:
        """Seconds an episode in `segment`, at the best batch size."""
        query = self._method.encode(self._query)
        pooled = self._method.encode_support(self._support_batch(self._support_features(), 1))
        ways = 1 if self._method.info.max_ways == 1 else self._ways

        def head(batch: int) -> Work:
            count = batch * ways * shot
            episodes = EpisodeBatch.of(
                (batch, ways, shot),
                (self._query.shape[-2], self._query.shape[-1]),
                {name: torch.cat([value] * batch) for name, value in query.items()},
                {name: torch.cat([value] * count) for name, value in pooled.items()},
                self._label.expand(count, -1, -1),
                query_pixels=self._query.expand(batch, -1, -1, -1),
                support_pixels=self._support.expand(count, -1, -1, -1),
            )
            return lambda: [self._method.segment(episodes) for _ in range(self._ways // ways)]

        return self._best(head, (1, 2, 4, 8))

    def _support_features(self) -> Features:
        return self._method.encode(self._support) if self._method.encodes_support else {}

    def _support_batch(self, features: Features, count: int) -> SupportBatch:
        return SupportBatch(
            {name: value.expand(count, *value.shape[1:]) for name, value in features.items()},
            self._label.expand(count, -1, -1),
            lambda: self._support.expand(count, -1, -1, -1),
        )

    def _best(self, prepared: Callable[[int], Work], batches: Sequence[int] = BATCHES) -> float:
        """Seconds an item at the best batch size, each size's being the median of its tries, as machines are noisy.

        `prepared` gets everything ready for a batch; only what it returns is timed.
        """
        best = float("inf")
        for batch in batches:
            tries: list[float] = []
            work = prepared(batch)
            for _ in range(1 + TRIES):  # the first warms up
                start = time.perf_counter()
                work()
                if self._settings.device.type == "cuda":
                    torch.cuda.synchronize(self._settings.device)
                tries.append((time.perf_counter() - start) / batch)
                if tries[-1] > 2 * best:
                    break
            best = min(best, statistics.median(tries[1:] or tries))
        return best
