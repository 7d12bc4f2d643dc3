"""Features by key: from the store where they are, made where they are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from fssbench.engine.ahead import Ahead
from fssbench.engine.clock import Clock
from fssbench.engine.devices import in_parts, is_out_of_memory, let_go, to_device
from fssbench.engine.inputs import normalise
from fssbench.engine.labels import Labels, SupportKey
from fssbench.engine.memory import copied_apart
from fssbench.engine.needs import Key, MapKey, Picture, PooledKey
from fssbench.engine.store import FeatureStore
from fssbench.errors import FssbenchError, MethodError
from fssbench.method import Features, Method, Preprocess, SupportBatch

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank

T = TypeVar("T")


@dataclass
class Inputs:
    """Pixels and labels on their way from the bank to the device."""

    bank: Bank
    loader: Ahead[tuple[int, Preprocess]]
    labels: Labels
    device: torch.device
    memory_format: torch.memory_format
    clock: Clock

    def close(self) -> None:
        """End the threads that decode ahead."""
        self.loader.close()
        self.labels.close()

    def pixels(self, pictures: Sequence[Picture]) -> Tensor:
        """B x 3 x H x W, preprocessed on the device; uploaded as bytes."""
        with self.clock.phase("decode"):
            loaded = torch.stack([self.loader.get((p.image, p.how)) for p in pictures])
        pixels = normalise(to_device(loaded, self.device), pictures[0].how)
        return pixels.contiguous(memory_format=self.memory_format)

    def support_labels(self, keys: Sequence[SupportKey], how: Preprocess) -> Tensor:
        """M x H x W codes."""
        with self.clock.phase("decode"):
            loaded = torch.stack([self.labels.get(key, how) for key in keys])
        return to_device(loaded, self.device)

    def prefetch(self, keys: Sequence[Key]) -> None:
        """Begin to decode what these keys are made of."""
        self.loader.prefetch(dict.fromkeys((key.picture.image, key.picture.how) for key in keys))
        self.labels.prefetch((key.support, key.picture.how) for key in keys if isinstance(key, PooledKey))

    def shape(self, picture: Picture) -> tuple[int, int]:
        """Height and width of a picture."""
        size = self.bank.image_sizes[picture.image]
        return picture.how.size or picture.how.fitted(int(size[0]), int(size[1]))


class Maker:
    """Makes features for methods that share one encoder.

    Images are encoded `batch` at a time, supports a quarter of that, the last batch filled up by repeating: what an
    image's features are, to the last bit, does not depend on what else is in the run. Images of native sizes are
    encoded one at a time. A method that fails is left out from then on; `failed` says why.
    """

    def __init__(self, methods: Sequence[Method], inputs: Inputs, batch: int, say: Callable[[int], None]) -> None:
        self._methods, self._inputs, self._say = methods, inputs, say
        self.batch = batch
        self.failed: dict[int, Exception] = {}

    def make(self, images: Sequence[Sequence[Key]], keep: Callable[[Key, Features], None]) -> None:
        """Give `keep` the features of every key; each element holds keys of one picture, which is encoded once.

        Raises what the shared encoder raised, and `FssbenchError` for an image that cannot be read.
        """
        groups: dict[tuple[Preprocess, tuple[int, int]], list[Sequence[Key]]] = {}
        for keys in images:
            picture = keys[0].picture
            groups.setdefault((picture.how, self._inputs.shape(picture)), []).append(keys)
        for (how, _), same in groups.items():
            native = how.size is None
            batch = in_parts(same, 1 if native else self.batch, partial(self._make, keep), self._say)
            self.batch = self.batch if native else batch

    def _make(self, keep: Callable[[Key, Features], None], images: Sequence[Sequence[Key]], batch: int) -> None:
        pixels = self._inputs.pixels([keys[0].picture for keys in _filled(images, batch)])
        shared: list[Features] = []
        for number, method in enumerate(self._methods):
            wanted = [(i, key) for i, keys in enumerate(images) for key in keys if key.method == number]
            if number in self.failed or not wanted:
                continue
            with self._may_fail(number, batch):
                self._make_of(number, method, pixels, shared, wanted, keep)

    def _make_of(
        self,
        number: int,
        method: Method,
        pixels: Tensor,
        shared: list[Features],
        wanted: Sequence[tuple[int, Key]],
        keep: Callable[[Key, Features], None],
    ) -> None:
        """Everything that one method needs of a batch of images."""
        maps: Features = {}
        if method.encodes_support or any(isinstance(key, MapKey) for _, key in wanted):
            maps = self._encode(number, method, pixels, shared)
        pooled: list[tuple[int, PooledKey]] = []
        for i, key in wanted:
            if isinstance(key, MapKey):
                keep(key, _item(maps, i))
            else:
                pooled.append((i, key))
        at_once = max(1, len(pixels) // 4)
        for start in range(0, len(pooled), at_once):
            some = pooled[start : start + at_once]
            made = self._pool(number, method, maps, pixels, _filled(some, at_once))
            for m, (_, key) in enumerate(some):
                keep(key, _item(made, m))

    def _encode(self, number: int, method: Method, pixels: Tensor, shared: list[Features]) -> Features:
        """Features of a batch of images; `shared` holds what the encoder gave for an earlier method."""
        own, phase = type(method).encode is not Method.encode, self._inputs.clock.phase
        if own:
            with phase("encode", number):
                return method.encode(pixels)
        if not shared:
            try:
                with phase("encode"):
                    shared.append(method.encoder(pixels))
            except Exception as error:
                raise _EncoderError from error
        with phase("encode", number):
            return method.project(shared[0])

    def _pool(
        self, number: int, method: Method, maps: Features, pixels: Tensor, places: Sequence[tuple[int, PooledKey]]
    ) -> Features:
        """`encode_support` for M labels."""
        labels = self._inputs.support_labels([key.support for _, key in places], method.support_input)
        of = [i for i, _ in places]

        def taken(value: Tensor) -> Tensor:
            return value[of[0] : of[0] + 1] if len(of) == 1 else torch.stack([value[i] for i in of])

        features = {name: taken(value) for name, value in maps.items()} if method.encodes_support else {}
        with self._inputs.clock.phase("encode", number):
            return method.encode_support(SupportBatch(features, labels, lambda: taken(pixels)))

    @contextmanager
    def _may_fail(self, number: int, batch: int) -> Iterator[None]:
        try:
            yield
        except FssbenchError as error:
            if not isinstance(error, MethodError):
                raise
            self.failed[number] = error
        except _EncoderError as error:
            raise error.__cause__ or error from None
        except Exception as error:
            if is_out_of_memory(error) and batch > 1:
                raise
            self.failed[number] = let_go(error)


class _EncoderError(Exception):
    """The encoder that all methods share failed."""


class FeatureSource:
    """The features of one step after the other, over one fold.

    With a store, an image is encoded once and everything that any later step needs of it is made at that moment;
    without one every occurrence in every episode is encoded anew, as the published test loops do.
    """

    def __init__(self, maker: Maker, inputs: Inputs, store: FeatureStore | None, schedule: Iterable[Key]) -> None:
        self._maker, self._inputs, self._store = maker, inputs, store
        self._of_picture: dict[Picture, list[Key]] = defaultdict(list)
        for key in schedule:
            self._of_picture[key.picture].append(key)

    def take(self, needed: Sequence[Key], upcoming: Iterable[Key] = ()) -> dict[Key, Features]:
        """The features of `needed`, but for those of a method that failed. `upcoming` are the keys of later steps."""
        now: dict[Key, Features] = {}
        if self._store is None:
            self._maker.make([[key] for key in needed], now.__setitem__)
            return now
        for key in needed:
            if key not in now and (found := self._store.get(key)) is not None:
                now[key] = found
        missing = {key for key in needed if key not in now and key.method not in self._maker.failed}
        if missing:
            pictures = self._with_others(dict.fromkeys(key.picture for key in needed if key in missing), upcoming)
            self._maker.make(
                [self._wanted(picture, missing) for picture in pictures], partial(self._keep, now, missing)
            )
        return now

    def _with_others(self, pictures: dict[Picture, None], upcoming: Iterable[Key]) -> list[Picture]:
        """Pictures, and of those that later steps need as many as fill a batch; the next are prefetched."""
        if self._store is None:
            raise RuntimeError("there is no store")
        ahead: dict[Picture, None] = {}
        for key in islice(upcoming, 4096):
            if self._store.wants(key) and key.picture not in pictures:
                ahead[key.picture] = None
            if len(ahead) >= 4 * self._maker.batch + 8:
                break
        chosen, waiting = list(pictures), list(ahead)
        if not self._store.statistics.lost:  # where features have been lost, those made ahead of need would be too
            spare = -len(chosen) % self._maker.batch
            chosen, waiting = chosen + waiting[:spare], waiting[spare:]
        self._inputs.prefetch([key for picture in (*chosen, *waiting) for key in self._wanted(picture, set())])
        return chosen

    def _wanted(self, picture: Picture, missing: set[Key]) -> list[Key]:
        """What is still to be made of a picture."""
        keys = self._of_picture[picture]
        return [key for key in keys if key in missing or (self._store is not None and self._store.wants(key))]

    def _keep(self, now: dict[Key, Features], missing: set[Key], key: Key, features: Features) -> None:
        if key in missing:
            now[key] = features
        if self._store is not None:
            self._store.put(key, features)


def _item(features: Features, place: int) -> Features:
    """A copy of what was made of one image, which lets go of the batch."""
    return {name: copied_apart(value[place : place + 1]) for name, value in features.items()}


def _filled(items: Sequence[T], count: int) -> list[T]:
    """`count` items, the last one repeated."""
    return [*items, *[items[-1]] * (count - len(items))]
