"""A batch of training episodes as pixels, or as encoder features that were kept, and what a method makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor

from fssbench.backbones import Backbone
from fssbench.method import EpisodeBatch, Features, Method, SupportBatch, warn_if_empty


@dataclass(frozen=True)
class Episodes:
    """B episodes of N ways and K shots, ready for a network. Maps are what its encoder gave, in place of pixels."""

    query: Tensor  # B x 3 x H x W
    query_labels: Tensor  # B x H x W int64: 0, 1..N, 255
    support: Tensor  # B x N x K x 3 x H x W
    support_labels: Tensor  # B x N x K x H x W uint8
    auxiliary: Tensor | None = None  # B x N x A x 3 x H x W
    classes: Tensor | None = None  # B int64, see `EpisodeBatch`
    base_labels: Tensor | None = None  # B x H x W int64
    query_maps: Features | None = None  # name -> B x C x h x w, the encoder's first maps or all
    support_maps: Features | None = None  # name -> B x N x K x C x h x w, likewise
    auxiliary_maps: Features | None = None  # name -> B x N x A x C x h x w, likewise

    def __len__(self) -> int:
        return len(self.query)

    def part(self, which: slice) -> Episodes:
        """Some of the episodes."""
        return self._each(lambda value: value[which])

    def to(self, device: torch.device) -> Episodes:
        """All tensors on a device."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def _each(self, change: Any) -> Episodes:
        changed: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = change(value)
            elif isinstance(value, dict):
                changed[item.name] = {name: change(one) for name, one in value.items()}
        return replace(self, **changed)


@dataclass(frozen=True)
class Images:
    """B single images with labels of all base classes: what a base learner is trained on."""

    pixels: Tensor  # B x 3 x H x W
    labels: Tensor  # B x H x W int64: 0, 1 + place of the base class, 255

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, which: slice) -> Images:
        """Some of the images."""
        return Images(self.pixels[which], self.labels[which])

    def to(self, device: torch.device) -> Images:
        """Both on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Images:
        return Images(change(self.pixels), change(self.labels))


Batch = Episodes | Images


def encoded(method: Method, batch: Episodes) -> EpisodeBatch:
    """The episodes with gradients, encoded in the order that the method's batch statistics ask for."""
    size = batch.support_labels.shape[:3]
    warn_if_empty(batch.support_labels)
    if method.supports_first:
        support = _supports(method, batch)
        query = _queries(method, batch)
    else:
        query = _queries(method, batch)
        support = _supports(method, batch)
    return EpisodeBatch.of(
        (size[0], size[1], size[2]),
        (batch.query_labels.shape[-2], batch.query_labels.shape[-1]),
        query,
        support,
        batch.support_labels.flatten(0, 2),
        auxiliary=_auxiliary(method, batch),
        query_pixels=batch.query,
        support_pixels=batch.support.flatten(0, 2),
        query_labels=batch.query_labels,
        classes=batch.classes,
        base_labels=batch.base_labels,
    )


def _queries(method: Method, batch: Episodes) -> Features:
    return method.encode_query(batch.query) if batch.query_maps is None else _onward(method, batch.query_maps)


def _onward(method: Method, maps: Features) -> Features:
    """What `encode` gives, from the encoder's first maps on."""
    return method.project(cast(Backbone, method.encoder).onward(maps))


def _auxiliary(method: Method, batch: Episodes) -> Features | None:
    if batch.auxiliary is None or batch.auxiliary_maps is None:
        return None if batch.auxiliary is None else method.encode(batch.auxiliary.flatten(0, 2))
    return _onward(method, {n: v.flatten(0, 2) for n, v in batch.auxiliary_maps.items()})


def _supports(method: Method, batch: Episodes) -> Features:
    """`encode_support` of all supports, episodes outermost: (B N K) x ..."""
    shots = batch.support_labels.shape[2]
    passes = [slice(k, k + 1) for k in range(shots)] if method.shot_by_shot else [slice(0, shots)]
    made: list[Features] = []
    for some in passes:
        pixels, labels = batch.support[:, :, some], batch.support_labels[:, :, some]
        maps = None if batch.support_maps is None else {n: v[:, :, some] for n, v in batch.support_maps.items()}
        encoded = _support_pass(method, pixels, labels, maps)
        made.append({name: value.unflatten(0, labels.shape[:3]) for name, value in encoded.items()})
    return {name: torch.cat([one[name] for one in made], dim=2).flatten(0, 2) for name in made[0]}


def _support_pass(method: Method, pixels: Tensor, labels: Tensor, maps: Features | None) -> Features:
    images = pixels.flatten(0, 2)
    features: Features = {}
    if method.encodes_support:
        known = None if maps is None else {name: value.flatten(0, 2) for name, value in maps.items()}
        features = method.encode(images) if known is None else _onward(method, known)
    return method.encode_support(SupportBatch(features, labels.flatten(0, 2), lambda: images, labels.shape[2]))
