"""What a frozen encoder makes of the training images, kept, so that a step costs the head alone.

A picture is known by its pixels: an image that augmentation only mirrors has two forms, and each is encoded once.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from fssbench.method import Features, Method
from fssbench.training.batches import Batch, Episodes
from fssbench.training.recipe import Stage, matches


def keeps_features(method: Method, stage: Stage) -> bool:
    """Whether the encoder maps equal pixels to equal features during a whole stage, and pixels do come again."""
    still = matches("encoder", stage.evaluating) and all(
        stage.frozen_parameter(f"encoder.{name}") for name, _ in method.encoder.named_parameters()
    )
    finite = stage.query.finite and stage.support.finite
    return still and finite and stage.kind == "episodes" and type(method).encode is Method.encode


class FeatureCache:
    """Features of images by their pixels, up to so many bytes; beyond them an image is encoded each time it comes.

    Every image is encoded alone: what it gives must not depend on the batch that it came with, or on what a resumed
    run has not kept.
    """

    def __init__(self, method: Method, device: torch.device, limit: int = 2 << 30) -> None:
        self._method, self._device, self._room = method, device, limit
        self._kept: dict[bytes, Features] = {}

    def fill(self, batch: Batch) -> Batch:
        """The episodes with `query_maps` and `support_maps`; pixels stay, for methods that look at them."""
        if not isinstance(batch, Episodes):
            return batch
        support = None
        if self._method.encodes_support:
            maps = self._maps(batch.support.flatten(0, 2))
            support = {name: value.unflatten(0, batch.support.shape[:3]) for name, value in maps.items()}
        return replace(batch, query_maps=self._maps(batch.query), support_maps=support)

    def _maps(self, images: Tensor) -> Features:
        each = [self._of(image) for image in images]
        return {name: torch.cat([features[name] for features in each]) for name in each[0]}

    def _of(self, image: Tensor) -> Features:
        key = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()
        if key not in self._kept:
            self._method.eval()  # a step enters its own mode afterwards
            with torch.no_grad():
                features: Features = self._method.encoder(image.unsqueeze(0).to(self._device))
            self._room -= sum(value.nbytes for value in features.values())
            if self._room < 0:
                return features
            self._kept[key] = features
        return self._kept[key]
