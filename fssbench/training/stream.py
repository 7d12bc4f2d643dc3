"""Training episodes as a stateless stream: episode i of epoch e is a function of the seed, e and i.

So a run that was cut off, or one that is shared by several processes, needs no sampler's state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.randomness import shuffled, stream
from fssbench.banks.sampling import Episodes, Pool, Shape, draw
from fssbench.protocol import Protocol
from fssbench.training.recipe import Stage

_EPOCH, _ORDER, _QUERIES, _CHANGE = range(4)  # streams of a seed
_DRAWS = {
    "class": ("uniform", "random"),
    "balanced": ("balanced", "even"),
    "image": ("image", "list"),
    "pair": ("pair", "list"),
}


@dataclass(frozen=True)
class Drawn:
    """One episode: image numbers and class ids; `change` is the generator that its augmentation draws from."""

    number: int  # counted through all epochs
    classes: tuple[int, ...]  # N
    support: NDArray[np.int64]  # N x K
    query: int
    auxiliary: NDArray[np.int64] | None  # N x A

    def generator(self, seed: int, place: int) -> np.random.Generator:
        """What the augmentation of one image of the episode draws from: 0 the query, then its supports."""
        return stream(seed, _CHANGE, self.number, place)


class EpisodeStream:
    """The episodes of one stage. Several queries of one class and with one support set follow each other."""

    def __init__(self, pool: Pool, stage: Stage, fold: int, seed: int) -> None:
        self.pool, self.stage, self.fold, self.seed = pool, stage, fold, seed
        images = len({image for image, _ in pool.pairs})
        whole = {"pair": len(pool.pairs), "image": images}.get(stage.draw, 1000)
        self.epoch_length = max(1, whole)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    @property
    def steps(self) -> int:
        """Optimiser steps of the stage."""
        stage = self.stage
        return max(1, stage.epochs * self.epoch_length // stage.batch) if stage.epochs else stage.steps

    def episode(self, number: int) -> Drawn:
        """Episode `number`, counted from 0 through all epochs."""
        group, place = divmod(number, self.stage.queries)
        epoch, i = divmod(group, self.epoch_length)
        drawn = self._epoch(epoch)
        classes = tuple(drawn.classes[i].tolist())
        query = int(drawn.query[i])
        if place:
            met = (query, *drawn.support[i].ravel().tolist())
            taken = {copy for image in met for copy in self.pool.copies(image)}
            free = [image for image in self.pool.support[classes[0]] if image not in taken]
            query = shuffled(stream(self.seed, _QUERIES, group), free)[(place - 1) % len(free)] if free else query
        return Drawn(number, classes, drawn.support[i], query, None if drawn.auxiliary is None else drawn.auxiliary[i])

    def batch(self, step: int) -> list[Drawn]:
        """The episodes of an optimiser step."""
        first = step * self.stage.batch
        return [self.episode(number) for number in range(first, first + self.stage.batch)]

    def _draw(self, epoch: int) -> Episodes:
        stage, pool = self.stage, self.pool
        class_draw, query_draw = _DRAWS[stage.draw]
        seed = int(stream(self.seed, _EPOCH, epoch).bit_generator.random_raw()) >> 2
        if stage.draw in ("pair", "image"):
            pool = replace(pool, pairs=shuffled(stream(self.seed, _ORDER, epoch), pool.pairs))
        protocol = Protocol(
            name="training", class_draw=class_draw, query_draw=query_draw, episodes=self.epoch_length, seeds=(seed,)
        )
        return draw(protocol, pool, self.fold, Shape(stage.ways, stage.shots, 1, stage.auxiliary))
