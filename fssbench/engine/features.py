"""Features of images and supports for a step: from the store where they are, made where they are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from fssbench.backbones import Backbone
from fssbench.engine.ahead import Ahead
from fssbench.engine.clock import Clock
from fssbench.engine.devices import is_out_of_memory
from fssbench.engine.inputs import normalise
from fssbench.engine.labels import Labels, SupportKey
from fssbench.engine.plan import other_classes
from fssbench.engine.store import FeatureStore
from fssbench.method import EpisodeBatch, Features, Method, Preprocess, SupportBatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fssbench.banks.bank import Bank, Episodes

T = TypeVar("T")


def pools_support(method: Method) -> bool:
    """Whether the method reduces a support by itself; otherwise its image's features are what `segment` gets."""
    return type(method).encode_support is not Method.encode_support


def encoder_key(method: Method, weights: str) -> Hashable:
    """Equal for methods whose encoders compute the same function, so that one pass serves them all."""
    if type(method).encode is Method.encode and isinstance(method.encoder, Backbone):
        return method.encoder.signature, method.encoder.last, weights, method.query_input, method.support_input
    return id(method)


class FeatureSource:
    """Features for methods that share one encoder, over one fold.

    `uses` lists for every method and step what it needs (see `schedule`). With a store, an image is encoded once and
    everything that any later step needs of it is made at that moment; without one (`store` None) every occurrence in
    every episode is encoded anew, as the published test loops do.
    """

    def __init__(
        self,
        bank: Bank,
        methods: Sequence[Method],
        loader: Ahead[tuple[int, Preprocess]],
        labels: Labels,
        device: torch.device,
        clock: Clock,
        encode_batch: int,
        channels_last: bool = False,
        encode: Callable[[Method, Tensor], Features] | None = None,
        on_smaller_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._bank, self.methods, self._loader, self._labels = bank, list(methods), loader, labels
        self._device, self._clock, self._encode_batch = device, clock, encode_batch
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._encoder = encode or (lambda method, pixels: method.encoder(pixels))
        self._on_smaller_batch = on_smaller_batch
        self._store: FeatureStore | None = None
        self._now: dict[Hashable, Features] = {}
        self._scheduled: set[Hashable] = set()
        self._supports_of: dict[tuple[int, int], list[SupportKey]] = {}
        self.encoded_images = 0

    # --- the schedule ------------------------------------------------------------------------------------------

    def needs(self, index: int, episodes: Episodes, rows: NDArray[np.int64], shot: int) -> list[Hashable]:
        """The keys that method number `index` needs to segment these episodes at `shot` shots."""
        method = self.methods[index]
        keys: dict[Hashable, None] = {}
        for row in rows.tolist():
            keys["map", index, method.query_input, int(episodes.query[row])] = None
            for support in self._support_keys(episodes, row, shot):
                if pools_support(method):
                    keys["support", index, support] = None
                else:
                    keys["map", index, method.support_input, support.image] = None
            if method.info.uses_auxiliary and episodes.auxiliary is not None:
                for image in episodes.auxiliary[row].ravel().tolist():
                    keys["map", index, method.query_input, image] = None
        return list(keys)

    def begin(self, schedule: dict[Hashable, list[int]], store: FeatureStore) -> None:
        """Use a store made for `schedule`: key -> the steps that need it."""
        self._store, self._scheduled = store, set(schedule)
        self._supports_of = defaultdict(list)
        for key in schedule:
            if isinstance(key, tuple) and key[0] == "support":
                self._supports_of[key[1], key[2].image].append(key[2])

    def _support_keys(self, episodes: Episodes, row: int, shot: int) -> list[SupportKey]:
        """The N x K supports of an episode, ways outermost."""
        classes = episodes.classes[row].tolist()
        return [
            SupportKey(int(image), classes[way], other_classes(classes, way))
            for way in range(len(classes))
            for image in episodes.support[row, way, :shot]
        ]

    # --- making features ---------------------------------------------------------------------------------------

    def ensure(self, needed: Sequence[Hashable], upcoming: Iterator[Hashable]) -> None:
        """Make what `needed` lacks. `upcoming` are the keys of later steps, to fill encoder batches and prefetch."""
        store = self._store
        if store is None:
            raise RuntimeError("`begin` comes first")
        self._now = {}
        jobs: dict[tuple[Preprocess, int], None] = {}
        for key in needed:
            found = store.get(key)
            if found is None:
                jobs[self._job(key)] = None
            else:
                self._now[key] = found
        if not jobs:
            return
        ahead: dict[tuple[Preprocess, int], None] = {}
        for key in islice(upcoming, 4096):
            job = self._job(key)
            if key not in store and job not in jobs:
                ahead[job] = None
            if len(ahead) >= 4 * self._encode_batch + 8:
                break
        waiting = list(ahead)
        if not store.statistics.lost:  # where features have been lost, those made ahead of their need would be too
            while len(jobs) % self._encode_batch and waiting:
                jobs[waiting.pop(0)] = None
        self._loader.prefetch((image, how) for how, image in [*jobs, *waiting])
        wanted = set(needed)
        for how, images in _by_input(jobs):
            for start in range(0, len(images), self._encode_batch):
                self._halving(images[start : start + self._encode_batch], partial(self._make, how, wanted))

    def _job(self, key: Hashable) -> tuple[Preprocess, int]:
        if not isinstance(key, tuple):
            raise TypeError(key)
        if key[0] == "map":
            return key[2], key[3]
        return self.methods[key[1]].support_input, key[2].image

    def _make(self, how: Preprocess, wanted: set[Hashable], images: list[int]) -> None:
        """Encode images and everything the schedule needs of them."""
        with self._clock.phase("decode"):
            loaded = [self._loader.get((image, how)) for image in images]
        for same in _by_shape(images, loaded):
            pixels = self._upload([loaded[i] for i in same], how)
            group = [images[i] for i in same]
            shared: list[Features] = []
            for index, method in enumerate(self.methods):
                maps = self._encode(method, pixels, shared) if self._encodes(index, how, group) else {}
                for i, image in enumerate(group):
                    one = {name: value[i : i + 1].clone() if len(group) > 1 else value for name, value in maps.items()}
                    if one:
                        self._keep(("map", index, how, image), one, wanted)
                    if how == method.support_input:
                        self._make_supports(index, image, one, pixels[i : i + 1], wanted)

    def _encode(self, method: Method, pixels: Tensor, shared: list[Features]) -> Features:
        """Features of a batch of images; `shared` holds what the encoder gave for an earlier method."""
        with self._clock.phase("encode"):
            if type(method).encode is not Method.encode:
                self.encoded_images += len(pixels)
                return method.encode(pixels)
            if not shared:
                self.encoded_images += len(pixels)
                shared.append(self._encoder(method, pixels))
            return method.project(shared[0])

    def _encodes(self, index: int, how: Preprocess, images: list[int]) -> bool:
        """Whether anything that is still to come needs the encoder's features of these images."""
        pools = self.methods[index].encodes_support and how == self.methods[index].support_input
        return any(
            ("map", index, how, image) in self._scheduled or (pools and (index, image) in self._supports_of)
            for image in images
        )

    def _make_supports(self, index: int, image: int, maps: Features, pixels: Tensor, wanted: set[Hashable]) -> None:
        keys = self._supports_of.get((index, image), [])
        if keys:
            for key, value in zip(keys, self._pool(index, keys, maps, pixels), strict=True):
                self._keep(("support", index, key), value, wanted)

    def _pool(self, index: int, keys: Sequence[SupportKey], maps: Features, pixels: Tensor) -> list[Features]:
        """`encode_support` for M labels of one image."""
        method, count = self.methods[index], len(keys)
        labels = torch.stack([self._labels.get(key, method.support_input) for key in keys]).to(self._device)
        features = {name: value.expand(count, *value.shape[1:]) for name, value in maps.items()}
        batch = SupportBatch(
            features if method.encodes_support else {}, labels, lambda: pixels.expand(count, *pixels.shape[1:])
        )
        with self._clock.phase("encode"):
            made = method.encode_support(batch)
        return [{name: value[m : m + 1].clone() for name, value in made.items()} for m in range(count)]

    def _keep(self, key: Hashable, features: Features, wanted: set[Hashable]) -> None:
        if key in wanted:
            self._now[key] = features
        if self._store is not None:
            self._store.put(key, features)

    def _halving(self, items: list[T], work: Callable[[list[T]], None]) -> None:
        """Do `work` on all items; when the device runs out of memory, on half of them at a time."""
        try:
            work(items)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(items) == 1:
                raise
            torch.cuda.empty_cache()
            self._encode_batch = max(1, len(items) // 2)
            self._on_smaller_batch(self._encode_batch)
            for start in range(0, len(items), self._encode_batch):
                self._halving(items[start : start + self._encode_batch], work)

    # --- putting episodes together -----------------------------------------------------------------------------

    def assemble(self, index: int, episodes: Episodes, rows: NDArray[np.int64], shot: int) -> EpisodeBatch:
        """The episodes as the method's head sees them; `ensure` comes first."""
        method = self.methods[index]
        supports = [key for row in rows.tolist() for key in self._support_keys(episodes, row, shot)]
        shape = (len(rows), episodes.classes.shape[1], shot)
        queries = [self._map(index, method.query_input, int(episodes.query[row])) for row in rows.tolist()]
        if pools_support(method):
            encoded = [self._support(index, key) for key in supports]
        else:
            encoded = [self._map(index, method.support_input, key.image) for key in supports]
        auxiliary = None
        if method.info.uses_auxiliary and episodes.auxiliary is not None:
            images = episodes.auxiliary[rows]
            found = [self._map(index, method.query_input, image) for image in images.ravel().tolist()]
            auxiliary = self._together(found)
        size = self._bank.image_sizes[int(episodes.query[rows[0]])]
        canvas = method.query_input.size or method.query_input.fitted(int(size[0]), int(size[1]))
        return EpisodeBatch.of(
            shape,
            canvas,
            self._together(queries),
            self._together(encoded),
            lambda: self._together_labels(index, supports),
            auxiliary=auxiliary,
            query_pixels=lambda: self._pixels(method.query_input, episodes.query[rows].tolist()),
            support_pixels=lambda: self._pixels(method.support_input, [k.image for k in supports]),
        )

    def _map(self, index: int, how: Preprocess, image: int) -> Features:
        if self._store is not None:
            return self._now["map", index, how, image]
        method = self.methods[index]
        return self._encode(method, self._pixels(how, [image]), [])

    def _support(self, index: int, key: SupportKey) -> Features:
        if self._store is not None:
            return self._now["support", index, key]
        method = self.methods[index]
        maps = self._map(index, method.support_input, key.image) if method.encodes_support else {}
        return self._pool(index, [key], maps, self._pixels(method.support_input, [key.image]))[0]

    def _together(self, items: Sequence[Features]) -> Features:
        """One batch of features of one item each; a view, not a copy, where several are the same item."""
        if not items:
            return {}
        if len(items) > 1 and all(item is items[0] for item in items):
            return {
                name: value.to(self._device).expand(len(items), *value.shape[1:]) for name, value in items[0].items()
            }
        return {name: torch.cat([item[name].to(self._device) for item in items]) for name in items[0]}

    def _together_labels(self, index: int, keys: Sequence[SupportKey]) -> Tensor:
        how = self.methods[index].support_input
        return torch.stack([self._labels.get(key, how) for key in keys]).to(self._device)

    def _pixels(self, how: Preprocess, images: Sequence[int]) -> Tensor:
        with self._clock.phase("decode"):
            loaded = [self._loader.get((image, how)) for image in images]
        return self._upload(loaded, how)

    def _upload(self, loaded: Sequence[Tensor], how: Preprocess) -> Tensor:
        pixels = torch.stack(list(loaded))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        return normalise(pixels.to(self._device), how).contiguous(memory_format=self._memory_format)


def _by_input(jobs: dict[tuple[Preprocess, int], None]) -> list[tuple[Preprocess, list[int]]]:
    grouped: dict[Preprocess, list[int]] = {}
    for how, image in jobs:
        grouped.setdefault(how, []).append(image)
    return list(grouped.items())


def _by_shape(images: Sequence[int], loaded: Sequence[Tensor]) -> list[list[int]]:
    """Positions of images whose pixels can be stacked."""
    grouped: dict[tuple[int, ...], list[int]] = {}
    for position, _ in enumerate(images):
        grouped.setdefault(tuple(loaded[position].shape), []).append(position)
    return list(grouped.values())
