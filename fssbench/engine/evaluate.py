"""The evaluation of one fold: every image encoded once, every episode's head once, pixels counted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fssbench.engine.ahead import Ahead
from fssbench.engine.assemble import assemble
from fssbench.engine.build import compile_method
from fssbench.engine.clock import Clock
from fssbench.engine.devices import in_parts, let_go
from fssbench.engine.features import FeatureSource, Inputs, Maker
from fssbench.engine.inputs import read_pixels
from fssbench.engine.labels import Labels
from fssbench.engine.marks import Marks
from fssbench.engine.needs import Key, Needs, Picture, needs_of
from fssbench.engine.sources import BankImages
from fssbench.engine.steps import Step, in_order, plan_steps
from fssbench.engine.store import FeatureStore, StoreStatistics, feature_bytes
from fssbench.errors import FssbenchError, MethodError
from fssbench.method import EpisodeBatch, Features, Method, Preprocess

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes

BATCH_BYTES = 256 << 20  # features that one step may put together; keeps the head's batch small where maps are large


Counted = tuple[int, NDArray[np.int64], NDArray[np.uint8] | None]  # episode, counts, prediction


@dataclass(frozen=True)
class Settings:
    """How to run. None of these changes a count, apart from `precision` and the encoder's options."""

    device: torch.device
    precision: str = "fp32"
    annotation: str = "mask"
    workers: int = 2
    head_batch: int = 8
    encode_batch: int | None = None  # None: 1 on a CPU, which gains nothing by more, else 16
    cache: bool = True
    cache_bytes: int = 4 << 30
    host_bytes: int = 8 << 30  # of the host's memory, for what a GPU's `cache_bytes` do not hold
    spill_folder: Path | None = None
    spill_bytes: int = 20 << 30
    channels_last: bool = False
    compile: bool = False
    exact_times: bool = False


@dataclass
class Contender:
    """A method in the run, and what it does with its rows.

    `pending(fold, shot)` are the episodes still to do; `take` gets the fold, the shot and (episode, counts N x 6,
    prediction or None without `keeps_masks`) of a finished step. After a failure `error` is set, the others go on.
    """

    name: str
    method: Method
    shots: Sequence[int]
    pending: Callable[[int, int], NDArray[np.int64]]
    take: Callable[[int, int, Sequence[Counted]], None]
    keeps_masks: bool = False
    error: Exception | None = None


@dataclass
class Report:
    """What an evaluation of a fold did, for records and `fssbench speed`."""

    clock: Clock
    episodes: int
    store: StoreStatistics


def placed(method: Method, settings: Settings) -> Method:
    """The method where and as the settings say: device, memory layout, compiled. Itself, changed."""
    method.to(settings.device)
    if settings.channels_last:
        method.to(memory_format=torch.channels_last)
    if settings.compile:
        compile_method(method)
    return method


def inputs_of(bank: Bank, images: BankImages, settings: Settings, clock: Clock) -> Inputs:
    """What brings a bank's pixels and labels to the device; whoever asks for it closes it."""
    loader: Ahead[tuple[int, Preprocess]] = Ahead(lambda key: read_pixels(images, *key), settings.workers, 128 << 20)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return Inputs(bank, loader, Labels(images), settings.device, layout, clock)


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
        images = BankImages(bank, settings.annotation)
        self.inputs = inputs_of(bank, images, settings, self.clock)
        self.marks = Marks(bank, images, episodes, settings.device)
        self.maker = Maker(
            [c.method for c in contenders],
            self.inputs,
            settings.encode_batch or (1 if settings.device.type == "cpu" else 16),
            lambda n: say(f"the device ran out of memory: going on with {n} images a batch"),
        )
        self.store = FeatureStore({}, 0)
        self.head_limit: dict[int, int] = {}  # contender -> episodes a batch, once the device ran out of memory
        self.part_bytes: dict[int, tuple[int, ...]] = {}
        self.early: dict[Key, Features] = {}  # made to learn their size, before there is a store
        self.done = 0

    def close(self) -> None:
        for each in (self.inputs, self.marks, self.store):
            each.close()

    def run(self, advance: Callable[[int], None]) -> Report:
        todo = {
            (number, shot): set(contender.pending(self.fold, shot).tolist())
            for number, contender in enumerate(self.contenders)
            for shot in contender.shots
        }
        steps = self._steps(todo)
        needs = [self._needs(step.method, step.rows, step.shot) for step in steps]
        schedule: dict[Hashable, list[int]] = {}
        for number, of_step in enumerate(needs):
            for key in dict.fromkeys(of_step.all):
                schedule.setdefault(key, []).append(number)
        if self.settings.cache:
            settings = self.settings
            self.store = FeatureStore(
                schedule,
                settings.cache_bytes,
                settings.spill_folder,
                settings.spill_bytes,
                settings.host_bytes if settings.device.type == "cuda" else 0,
            )
            for key, features in self.early.items():
                self.store.put(key, features)
        self.early.clear()
        scheduled: Sequence[Key] = list(dict.fromkeys(chain.from_iterable(each.all for each in needs)))
        source = FeatureSource(self.maker, self.inputs, self.store if self.settings.cache else None, scheduled)
        for number, step in enumerate(steps):
            if self.contenders[step.method].error is None:
                soon = (each for each, later in zip(needs[number + 1 :], steps[number + 1 :], strict=True)
                        if self.contenders[later.method].error is None)  # fmt: skip
                self._do_step(step, needs[number], source, chain.from_iterable(each.all for each in soon))
                if self.contenders[step.method].error is None:
                    self.done += len(step.rows)
                    advance(len(todo[step.method, step.shot].intersection(step.rows.tolist())))
            self.store.finish(number)
        return Report(self.clock, self.done, self.store.statistics)

    def _needs(self, number: int, rows: NDArray[np.int64], shot: int) -> Needs:
        return needs_of(number, self.contenders[number].method, self.episodes, rows, shot)

    def _steps(self, todo: dict[tuple[int, int], set[int]]) -> list[Step]:
        """The steps with anything left to do; those of a method and shot depend on no others, nor on what is done."""
        steps = []
        for (number, shot), left in todo.items():
            batch = self._head_batch(number, shot) if left else 0
            if not batch:
                continue
            shape_of = partial(self._input_shape, self.contenders[number].method.query_input)
            cut = plan_steps(self.episodes, batch, shape_of)
            steps += [Step(number, shot, rows) for rows in cut if left.intersection(rows.tolist())]
        return in_order(steps, self.episodes)

    def _input_shape(self, how: Preprocess, image: int) -> tuple[int, int]:
        return self.inputs.shape(Picture(image, how))

    def _head_batch(self, number: int, shot: int) -> int:
        """Episodes a step: what `BATCH_BYTES` hold. 0 if the method has failed."""
        if number not in self.part_bytes:
            self.part_bytes[number] = self._part_bytes(number)
        needs = self._needs(number, np.zeros(1, np.int64), shot)
        parts = needs.queries, needs.supports, needs.auxiliary
        each = sum(size * len(keys) for size, keys in zip(self.part_bytes[number], parts, strict=True))
        if self.contenders[number].error is not None:
            return 0
        return max(1, min(self.settings.head_batch, BATCH_BYTES // max(1, each)))

    def _part_bytes(self, number: int) -> tuple[int, ...]:
        """Bytes of a query, a support and an auxiliary image, as the fold's first episode has them."""
        first = np.zeros(1, np.int64)
        needs = self._needs(number, first, 1)
        one = Needs(needs.queries, needs.supports[:1], needs.auxiliary[:1], needs.labels[:1])
        made = self._made(number, first, FeatureSource(self.maker, self.inputs, None, ()), one, ()) or {}
        self.early |= made
        parts = one.queries, one.supports, one.auxiliary
        return tuple(feature_bytes(made[keys[0]]) if keys and keys[0] in made else 0 for keys in parts)

    def _made(
        self, number: int, rows: NDArray[np.int64], source: FeatureSource, needs: Needs, soon: Iterable[Key]
    ) -> dict[Key, Features] | None:
        """Features, or None if the method failed; what the encoder that all share raises, fails them all."""
        try:
            made = source.take(needs.all, soon)
        except FssbenchError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a method raises is its own failure)
            for contender in self.contenders:
                self._fail(contender, rows, error)
            return None
        for failed, reason in self.maker.failed.items():
            self._fail(self.contenders[failed], rows, reason)
        return made if self.contenders[number].error is None else None

    def _do_step(self, step: Step, needs: Needs, source: FeatureSource, soon: Iterable[Key]) -> None:
        contender = self.contenders[step.method]
        self.marks.prefetch(step.rows)
        made = self._made(step.method, step.rows, source, needs, soon)
        if made is None:
            return
        try:
            self._segment(contender, step, made)
        except MethodError as error:
            contender.error = error
        except FssbenchError:
            raise
        except Exception as error:  # noqa: BLE001
            self._fail(contender, step.rows, error)

    def _fail(self, contender: Contender, rows: NDArray[np.int64], error: Exception) -> None:
        if contender.error is None:
            where = f"fold {self.fold}, episode{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows.tolist()))}"
            contender.error = MethodError(f"{contender.name} failed on {where}: {type(error).__name__}: {error}")
            contender.error.__cause__ = let_go(error)

    def _segment(self, contender: Contender, step: Step, made: dict[Key, Features]) -> None:
        logits = self._logits(contender, step, made)
        with self.clock.phase("score", step.method, step.shot):
            labels, counts, sound = self.marks.of(contender.method, logits, step.rows)
        for row, fine in zip(step.rows.tolist(), sound, strict=True):
            if not fine:
                query = self.bank.image_ids[int(self.episodes.query[row])]
                raise MethodError(
                    f"{contender.name} gave logits that are not finite on fold {self.fold}, episode {row} "
                    f"(query {query}, {step.shot}-shot). Nothing of it is counted."
                )
        with self.clock.phase("write", step.method, step.shot):
            masks = [x.to("cpu", torch.uint8).numpy() if contender.keeps_masks else None for x in labels]
            contender.take(self.fold, step.shot, list(zip(step.rows.tolist(), counts, masks, strict=True)))

    def _logits(self, contender: Contender, step: Step, made: dict[Key, Features]) -> list[Tensor]:
        """Logits of every episode: (1 + N) x h x w, S x (1 + N) x h x w, or N one-way logits stacked."""
        logits: list[Tensor] = []
        ways = int(self.episodes.classes.shape[1])

        def segment(rows: Sequence[int], _: int) -> None:
            size = len(rows), ways, step.shot
            needs = self._needs(step.method, np.array(rows), step.shot)
            batch = assemble(contender.method, needs, made, size, self.inputs)
            with self.clock.phase("head", step.method, step.shot):
                logits.extend(segmented(contender.method, batch))

        def say(parts: int) -> None:
            self.head_limit[step.method] = parts
            self.say(f"{contender.name}: the device ran out of memory: going on with {parts} episodes a batch")

        in_parts(step.rows.tolist(), self.head_limit.get(step.method, len(step.rows)), segment, say)
        return logits


def segmented(method: Method, batch: EpisodeBatch) -> list[Tensor]:
    """Logits by episode; a method that knows fewer ways is run once a way."""
    ways = batch.size[1]
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
