"""What the frozen stages of an encoder make of the training images, kept, so that a step costs the rest alone.

A picture is known by its pixels: an image that augmentation only mirrors has two forms, and each is encoded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from fssbench.backbones import Backbone
from fssbench.engine.hashes import encoder_sha256
from fssbench.method import Features, Method
from fssbench.training.batches import Batch, Episodes
from fssbench.training.recipe import Stage, matches


def kept_maps(method: Method, stage: Stage) -> list[str]:
    """The encoder's first maps, as far as equal pixels give equal ones during a whole stage; none where they do not.

    `method` is as `prepare` and `enter` leave it: a map without gradient has only frozen parameters before it.
    """
    still = stage.running_statistics or matches("encoder", stage.evaluating)
    finite = stage.query.finite and stage.support.finite
    if not (still and finite and stage.kind == "episodes" and type(method).encode is Method.encode):
        return []
    encoder = cast(Backbone, method.encoder)
    size = method.query_input.size or encoder.suited_size(64)
    with torch.enable_grad():
        maps = encoder(torch.zeros(1, 3, *size))
    kept = [name for name, value in maps.items() if not value.requires_grad]
    return kept if encoder.restarts or len(kept) == len(maps) else []


class Kept:
    """Features of images by their pixels, of one encoder at a time, up to so many bytes; trainings hand it on."""

    def __init__(self, limit: int = 2 << 30) -> None:
        self.limit = limit
        self.of(None)

    def of(self, encoder: Hashable) -> None:
        """Start anew, for this encoder."""
        self.features: dict[bytes, Features] = {}
        self.encoder, self.room = encoder, self.limit

    def add(self, key: bytes, features: Features) -> None:
        """Keep the features of one image if there is room."""
        size = sum(value.nbytes for value in features.values())
        if size <= self.room:
            self.features[key], self.room = features, self.room - size


class FeatureCache:
    """What a training asks for features: those that are kept, else the encoder.

    Every image is encoded alone: what it gives must not depend on the batch that it came with, or on what a resumed
    run has not kept.
    """

    def __init__(self, method: Method, maps: list[str], device: torch.device, kept: Kept | None = None) -> None:
        self._method, self._names, self._device = method, maps, device
        self._encoder = cast(Backbone, method.encoder)
        self._kept = kept or Kept()
        encoder = (self._encoder.signature, encoder_sha256(method), tuple(maps), device)
        if self._kept.encoder != encoder:
            self._kept.of(encoder)

    def fill(self, batch: Batch) -> Batch:
        """The episodes with maps of all images; pixels stay, for methods that look at them."""
        if not isinstance(batch, Episodes):
            return batch
        return replace(
            batch,
            query_maps=self._maps(batch.query),
            support_maps=self._maps(batch.support) if self._method.encodes_support else None,
            auxiliary_maps=None if batch.auxiliary is None else self._maps(batch.auxiliary),
        )

    def _maps(self, images: Tensor) -> Features:
        """... x 3 x H x W -> name: ... x C x h x w."""
        outer = images.shape[:-3]
        each = [self._of(image) for image in images.flatten(0, -4)]
        return {name: torch.cat([features[name] for features in each]).unflatten(0, outer) for name in each[0]}

    def _of(self, image: Tensor) -> Features:
        key = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()
        if key in self._kept.features:
            return self._kept.features[key]
        encoder = self._encoder.eval()  # a step enters its own mode afterwards
        last, encoder.last = encoder.last, self._names[-1]
        with torch.no_grad():
            maps: Features = encoder(image.unsqueeze(0).to(self._device))
        encoder.last = last
        features = {name: maps[name] for name in self._names}
        self._kept.add(key, features)
        return features
