"""Batches of a stage, loaded on threads ahead of the step that needs them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fssbench.datasets.base import VOID, label_map
from fssbench.datasets.decode import decode_image
from fssbench.engine.inputs import fit_image, fit_label, normalise
from fssbench.engine.sources import query_truth, support_codes
from fssbench.method import Method, Preprocess
from fssbench.training.augment import changed
from fssbench.training.base_classes import TrainingData
from fssbench.training.batches import Batch, Episodes, Images
from fssbench.training.recipe import Augmentation, Stage
from fssbench.training.stream import Drawn, EpisodeStream

Codes = NDArray[np.uint8]


class Loader:
    """Makes the batches of a stage; what comes out does not depend on the number of threads."""

    def __init__(
        self, method: Method, stage: Stage, data: TrainingData, episodes: EpisodeStream, part: tuple[int, int] = (0, 1)
    ) -> None:
        """`part` (i, n): the i-th of n equal slices of every batch, for n processes."""
        self.stage, self.data, self.episodes, self.part = stage, data, episodes, part
        self.query_input = training_input(method.query_input, stage)
        self.support_input = training_input(method.support_input, stage)
        self.base_labels = method.info.base_learner
        self._map = lru_cache(maxsize=1024)(self._read_map)
        self._pixels = lru_cache(maxsize=4096)(self._fitted)
        self._bytes = lru_cache(maxsize=1024)(lambda image: data.dataset.image_bytes(data.ids[image]))

    def batches(self, first: int, last: int, workers: int, parts: int = 1) -> Iterator[tuple[int, list[Batch]]]:
        """The batches of steps `first` to `last - 1`, each in so many parts; images of native size one by one."""
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="loader") as pool:
            coming: dict[int, Future[list[Batch]]] = {}
            for step in range(first, last):
                for ahead in range(step, min(last, step + 1 + 2 * workers)):
                    if ahead not in coming:
                        coming[ahead] = pool.submit(self.batch, ahead, parts)
                try:
                    yield step, coming.pop(step).result()
                except GeneratorExit:
                    pool.shutdown(cancel_futures=True)
                    raise

    def batch(self, step: int, parts: int = 1) -> list[Batch]:
        """The (process's part of the) batch of one optimiser step."""
        index, count = self.part
        drawn = self.episodes.batch(step)
        size = len(drawn) // count
        mine = drawn[index * size : (index + 1) * size]
        native = self.query_input.size is None or self.support_input.size is None
        each = 1 if native else -(-len(mine) // parts)
        make = self._images if self.stage.kind == "base" else self._episodes
        return [make(mine[start : start + each]) for start in range(0, len(mine), each)]

    def _images(self, drawn: list[Drawn]) -> Images:
        made = [self._query(one, base_first=True) for one in drawn]
        return Images(torch.stack([p for p, _ in made]), torch.stack([labels[0] for _, labels in made]).long())

    def _episodes(self, drawn: list[Drawn]) -> Episodes:
        queries = [self._query(one) for one in drawn]
        supports = [self._support(one, way, shot) for one in drawn for way, shot in np.ndindex(one.support.shape)]
        size = (len(drawn), *drawn[0].support.shape)
        auxiliary = None
        if drawn[0].auxiliary is not None:
            every = [self._auxiliary(one, place) for one in drawn for place in np.ndindex(drawn[0].auxiliary.shape)]
            auxiliary = torch.stack(every).unflatten(0, (len(drawn), *drawn[0].auxiliary.shape))
        place = {c: i for i, c in enumerate(self.data.classes)}
        return Episodes(
            query=torch.stack([pixels for pixels, _ in queries]),
            query_labels=torch.stack([labels[0] for _, labels in queries]).long(),
            support=torch.stack([pixels for pixels, _ in supports]).unflatten(0, size),
            support_labels=torch.stack([labels for _, labels in supports]).unflatten(0, size),
            auxiliary=auxiliary,
            classes=torch.tensor([place[one.classes[0]] for one in drawn]) if self.base_labels else None,
            base_labels=torch.stack([labels[1] for _, labels in queries]).long() if self.base_labels else None,
        )

    def _query(self, drawn: Drawn, base_first: bool = False) -> tuple[Tensor, list[Tensor]]:
        truth = [self._void(query_truth(self._map(drawn.query), drawn.classes))]
        if self.base_labels:
            truth.append(self._base(drawn.query))
        generator = drawn.generator(self.episodes.seed, 0)
        order = truth[::-1] if base_first else truth
        pixels, labels = self._form(drawn.query, order, self.query_input, self.stage.query, generator)
        if self.stage.background < 1:  # the rest of it is as if nobody had labelled it
            drawn_out = torch.from_numpy(generator.random(labels[0].shape) >= self.stage.background)
            labels[0] = labels[0].masked_fill(drawn_out & (labels[0] == 0), VOID)
        return pixels, labels

    def _support(self, drawn: Drawn, way: int, shot: int) -> tuple[Tensor, Tensor]:
        image, others = int(drawn.support[way, shot]), [c for c in drawn.classes if c != drawn.classes[way]]
        codes = self._void(support_codes(self._map(image), drawn.classes[way], others))
        place = 1 + way * drawn.support.shape[1] + shot
        pixels, labels = self._form(
            image, [codes], self.support_input, self.stage.support, drawn.generator(self.episodes.seed, place)
        )
        return pixels, labels[0]

    def _auxiliary(self, drawn: Drawn, place: tuple[int, ...]) -> Tensor:
        image = int(drawn.auxiliary[place]) if drawn.auxiliary is not None else 0
        number = 1000 + int(np.ravel_multi_index(place, drawn.auxiliary.shape)) if drawn.auxiliary is not None else 0
        generator = drawn.generator(self.episodes.seed, number)
        return self._form(image, [self._map(image)], self.query_input, self.stage.support, generator)[0]

    def _form(
        self, image: int, labels: list[Codes], how: Preprocess, change: Augmentation, generator: np.random.Generator
    ) -> tuple[Tensor, list[Tensor]]:
        if change.finite:
            pixels, masks = self._pixels(image, how), [fit_label(label, how) for label in labels]
            if generator.random() < change.flip:
                pixels, masks = pixels.flip(-1), [mask.flip(-1) for mask in masks]
        else:
            picture = decode_image(self._bytes(image), f"image {self.data.ids[image]}")
            pixels, masks = changed(picture, labels, how, change, generator)
        return normalise(pixels, how), masks

    def _fitted(self, image: int, how: Preprocess) -> Tensor:
        return fit_image(decode_image(self._bytes(image), f"image {self.data.ids[image]}"), how)

    def _void(self, codes: Codes) -> Codes:
        """Void as the recipe has it."""
        value = {"ignored": VOID, "background": 0, "object": 1}[self.stage.void]
        return np.where(codes == VOID, np.uint8(value), codes)

    def _base(self, image: int) -> Codes:
        """0, 1 + the place of each base class, 255."""
        table = np.zeros(256, np.uint8)
        for place, class_id in enumerate(self.data.classes, 1):
            table[class_id] = place
        table[VOID] = VOID
        return table[self._map(image)]

    def _read_map(self, image: int) -> Codes:
        image_id = self.data.ids[image]
        return label_map(self.data.dataset.mask(image_id), f"{self.data.dataset.name}: mask of {image_id}")


def training_input(how: Preprocess, stage: Stage) -> Preprocess:
    """A method's input as the stage has it."""
    if stage.fit == "native":
        how = replace(how, size=None, fit="native")
    elif stage.fit is not None:
        how = replace(how, fit=stage.fit)
    if stage.size is not None:
        how = replace(how, size=stage.size)
    if stage.reversed_channels:  # the first channel is blue, but is normalised by red's mean
        how = replace(how, channels="bgr", mean=how.mean[::-1], std=how.std[::-1])
    return how
