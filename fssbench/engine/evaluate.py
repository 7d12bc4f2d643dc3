"""The evaluation of one fold: every image encoded once, every episode's head once, pixels counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fssbench.engine.ahead import Ahead
from fssbench.engine.clock import Clock
from fssbench.engine.counting import Resolution, columns_of, counts_of, labels_at, pair_table, truth_at
from fssbench.engine.devices import is_out_of_memory
from fssbench.engine.features import FeatureSource
from fssbench.engine.inputs import read_pixels
from fssbench.engine.labels import Labels
from fssbench.engine.plan import Step, plan_steps
from fssbench.engine.sources import BankImages
from fssbench.engine.store import FeatureStore, StoreStatistics, feature_bytes
from fssbench.errors import FssbenchError, MethodError
from fssbench.method import EpisodeBatch, Features, Method, Preprocess, finite

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes

BATCH_BYTES = 512 << 20  # features that one step may put together; keeps the head's batch small where maps are large


@dataclass(frozen=True)
class Settings:
    """How to run. None of these changes a count, apart from `precision` and the encoder's options."""

    device: torch.device
    precision: str = "fp32"
    annotation: str = "mask"
    workers: int = 2
    head_batch: int = 8
    encode_batch: int | None = None  # None: 4 on a CPU, else 16
    cache: bool = True
    cache_bytes: int = 4 << 30
    spill_folder: Path | None = None
    spill_bytes: int = 20 << 30
    channels_last: bool = False
    compile_encoder: bool = False
    exact_times: bool = False
    resolution: Resolution = field(default_factory=Resolution)


@dataclass
class Contender:
    """A method in the run, and what it does with its rows.

    `pending(fold, shot)` are the episodes still to do; `take` gets (shot, episode, counts N x 6, prediction) of a
    finished step. After a failure `error` is set and the others go on.
    """

    name: str
    method: Method
    shots: Sequence[int]
    pending: Callable[[int, int], NDArray[np.int64]]
    take: Callable[[int, int, Sequence[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]], None]
    error: Exception | None = None


@dataclass
class Report:
    """What an evaluation of a fold did, for records and `fssbench speed`."""

    seconds: dict[str, float]
    encoded_images: int
    episodes: int
    store: StoreStatistics


def evaluate_fold(
    bank: Bank,
    fold: int,
    episodes: Episodes,
    contenders: Sequence[Contender],
    settings: Settings,
    advance: Callable[[int], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Segment a fold's pending episodes, all shots of a nested draw at once, with methods that share an encoder.

    `advance` is told how many (method, shot, episode) are done, `say` what the user should know. An exception inside a
    method, or logits that are not finite or of the wrong shape, end that method's part with `Contender.error` set.
    Must run inside `fssbench.engine.devices.numerics`.
    """
    work = _FoldWork(bank, fold, episodes, list(contenders), settings, say)
    try:
        return work.run(advance)
    finally:
        work.close()


class _FoldWork:
    def __init__(
        self,
        bank: Bank,
        fold: int,
        episodes: Episodes,
        contenders: list[Contender],
        settings: Settings,
        say: Callable[[str], None],
    ) -> None:
        self.bank, self.fold, self.contenders, self.settings, self.say = bank, fold, contenders, settings, say
        self.episodes = episodes
        self.clock = Clock(settings.device, settings.exact_times)
        self.images = BankImages(bank, settings.annotation)
        self.loader: Ahead[tuple[int, Preprocess]] = Ahead(
            lambda key: read_pixels(self.images, *key), settings.workers, 128 << 20
        )
        on_cpu = settings.device.type == "cpu"
        self.source = FeatureSource(
            bank,
            [c.method for c in contenders],
            self.loader,
            Labels(self.images),
            settings.device,
            self.clock,
            settings.encode_batch or (4 if on_cpu else 16),
            settings.channels_last,
            _compiled() if settings.compile_encoder else None,
            lambda n: say(f"the device ran out of memory: going on with {n} images a batch"),
        )
        self.store = FeatureStore({}, 0)
        self.head_limit: dict[int, int] = {}  # contender -> episodes a batch, once the device ran out of memory
        self.columns: OrderedDict[tuple[int, tuple[int, ...]], Tensor] = OrderedDict()
        self.done = 0

    def close(self) -> None:
        self.loader.close()
        self.store.close()

    def run(self, advance: Callable[[int], None]) -> Report:
        todo = {
            (i, shot): set(contender.pending(self.fold, shot).tolist())
            for i, contender in enumerate(self.contenders)
            for shot in contender.shots
        }
        steps = self._steps(max((shot for (_, shot), rows in todo.items() if rows), default=1))
        steps = [s for s in steps if any(set(s.rows.tolist()) & rows for rows in todo.values())]
        wanted = [self._wanted(step, todo) for step in steps]
        if self.settings.cache:
            schedule: dict[Hashable, list[int]] = {}
            for number, keys in enumerate(wanted):
                for key in keys:
                    schedule.setdefault(key, []).append(number)
            self.store = FeatureStore(
                schedule, self.settings.cache_bytes, self.settings.spill_folder, self.settings.spill_bytes
            )
            self.source.begin(schedule, self.store)
        for number, step in enumerate(steps):
            self._do_step(number, step, todo, wanted, advance)
        return Report(dict(self.clock.seconds), self.source.encoded_images, self.done, self.store.statistics)

    def _steps(self, shot: int) -> list[Step]:
        """Steps whose features fit `BATCH_BYTES`, by what one blank image gives."""
        inputs = {c.method.query_input for c in self.contenders}
        native = any(how.size is None for how in inputs)
        batch = self.settings.head_batch
        for index, contender in enumerate(self.contenders):
            heavy = self._episode_bytes(index, contender.method, shot)
            batch = max(1, min(batch, BATCH_BYTES // max(1, heavy)))
        sizes = self.bank.image_sizes
        return plan_steps(
            self.fold, self.episodes, batch, (lambda image: tuple(sizes[image].tolist())) if native else lambda _: None
        )

    def _episode_bytes(self, index: int, method: Method, shot: int) -> int:
        ways = int(self.episodes.classes.shape[1])
        side = method.query_input.size or (512, 512)
        try:
            blank = method.encode(torch.zeros(1, 3, *side, device=self.settings.device))
            if method.encodes_support and type(method).encode_support is Method.encode_support:
                return feature_bytes(blank) * (1 + ways * shot)
            return feature_bytes(blank) * 2
        except Exception:  # noqa: BLE001  (the step that really needs it will say what is wrong)
            return 0

    def _wanted(self, step: Step, todo: dict[tuple[int, int], set[int]]) -> list[Hashable]:
        keys: dict[Hashable, None] = {}
        rows = set(step.rows.tolist())
        for index, contender in enumerate(self.contenders):
            shots = [shot for shot in contender.shots if rows & todo[index, shot]]
            if shots:
                keys.update(dict.fromkeys(self.source.needs(index, self.episodes, step.rows, max(shots))))
        return list(keys)

    def _do_step(
        self,
        number: int,
        step: Step,
        todo: dict[tuple[int, int], set[int]],
        wanted: list[list[Hashable]],
        advance: Callable[[int], None],
    ) -> None:
        rows = set(step.rows.tolist())
        if self.settings.cache:
            upcoming: Iterator[Hashable] = chain.from_iterable(wanted[number + 1 : number + 64])
            try:
                self.source.ensure(wanted[number], upcoming)
            except FssbenchError:
                raise
            except Exception as error:  # noqa: BLE001  (whatever a method raises is its own failure)
                for contender in self.contenders:
                    self._fail(contender, step.rows, error)
        for index, contender in enumerate(self.contenders):
            for shot in contender.shots:
                if contender.error is not None or not rows & todo[index, shot]:
                    continue
                try:
                    self._segment(index, contender, step.rows, shot)
                except MethodError as error:
                    contender.error = error
                except FssbenchError:
                    raise
                except Exception as error:  # noqa: BLE001
                    self._fail(contender, step.rows, error)
                else:
                    self.done += len(step.rows)
                    advance(len(rows & todo[index, shot]))
        self.store.finish(number)

    def _fail(self, contender: Contender, rows: NDArray[np.int64], error: Exception) -> None:
        if contender.error is None:
            where = f"fold {self.fold}, episode{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows.tolist()))}"
            failure = MethodError(f"{contender.name} failed on {where}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            contender.error = failure

    def _segment(self, index: int, contender: Contender, rows: NDArray[np.int64], shot: int) -> None:
        logits, ways = self._logits(index, contender, rows, shot), self.episodes.classes.shape[1]
        with self.clock.phase("score"):
            labels = self._labels(contender.method, logits, rows, ways)
            tables = [
                pair_table(label, self._columns(int(self.episodes.query[row]), self.episodes.classes[row]), ways)
                for row, label in zip(rows.tolist(), labels, strict=True)
            ]
            numbers = counts_of(torch.stack(tables).cpu().numpy())
        with self.clock.phase("write"):
            contender.take(
                self.fold,
                shot,
                [(row, numbers[i], labels[i].to("cpu", torch.uint8).numpy()) for i, row in enumerate(rows.tolist())],
            )

    def _logits(self, index: int, contender: Contender, rows: NDArray[np.int64], shot: int) -> list[Tensor]:
        """Checked logits of every episode: (1 + N) x h x w, S x (1 + N) x h x w, or N one-way logits stacked."""
        ways = self.episodes.classes.shape[1]
        parts = min(len(rows), self.head_limit.get(index, len(rows)))
        while True:
            try:
                logits: list[Tensor] = []
                for start in range(0, len(rows), parts):
                    some = rows[start : start + parts]
                    batch = self.source.assemble(index, self.episodes, some, shot)
                    with self.clock.phase("head"):
                        logits += _segmented(contender.method, batch, ways)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or parts == 1:
                    raise
                torch.cuda.empty_cache()
                parts = self.head_limit[index] = max(1, parts // 2)
                self.say(f"{contender.name}: the device ran out of memory: going on with {parts} episodes a batch")
        for row, one in zip(rows.tolist(), logits, strict=True):
            if not finite(one):
                query = self.bank.image_ids[int(self.episodes.query[row])]
                raise MethodError(
                    f"{contender.name} gave logits that are not finite on fold {self.fold}, episode {row} "
                    f"(query {query}, {shot}-shot). Nothing of it is counted."
                )
        return logits

    def _labels(self, method: Method, logits: list[Tensor], rows: NDArray[np.int64], ways: int) -> list[Tensor]:
        """The label of every episode; queries of one size that follow each other are resized together."""
        sizes = [tuple(self.bank.image_sizes[int(self.episodes.query[row])].tolist()) for row in rows]
        labels: list[Tensor] = []
        for size, same in groupby(range(len(rows)), key=lambda i: sizes[i]):
            together = torch.stack([logits[i] for i in same])
            labels += labels_at(method, together, ways, size, method.query_input, self.settings.resolution)
        return labels

    def _columns(self, query: int, classes: NDArray[np.int64]) -> Tensor:
        """The query's truth at the scoring resolution, as columns of `pair_table`."""
        key = query, tuple(classes.tolist())
        if key not in self.columns:
            truth = torch.from_numpy(self.images.query_truth(query, key[1])).to(self.settings.device)
            self.columns[key] = columns_of(truth_at(truth, self.settings.resolution), len(key[1]))
            if len(self.columns) > 64:
                self.columns.popitem(last=False)
        return self.columns[key]


def _segmented(method: Method, batch: EpisodeBatch, ways: int) -> list[Tensor]:
    """Logits by episode; a method that knows fewer ways is run once a way."""
    if method.info.max_ways is None or ways <= method.info.max_ways:
        logits = method.segment(batch)
        return list(_checked(method, logits, batch.size[0], ways))
    by_way = [
        _checked(method, method.segment(batch.way(way)), batch.size[0], 1) for way in range(ways)
    ]  # ways times B x [S x] 2 x h x w
    return list(torch.stack(by_way, 1))


def _checked(method: Method, logits: Tensor, batch: int, ways: int) -> Tensor:
    if logits.dim() not in (4, 5) or logits.shape[0] != batch or logits.shape[-3] != 1 + ways:
        raise MethodError(
            f"{method.info.title}.segment: expected logits of shape {batch} x {1 + ways} x h x w (or with the shots as "
            f"second dimension), found {' x '.join(map(str, logits.shape))}"
        )
    return logits


def _compiled() -> Callable[[Method, Tensor], Features]:
    compiled: dict[int, Callable[[Tensor], Features]] = {}

    def encode(method: Method, pixels: Tensor) -> Features:
        if id(method) not in compiled:
            compiled[id(method)] = torch.compile(method.encoder)
        return compiled[id(method)](pixels)

    return encode
