"""Marking predictions: labels from logits, counts from labels, one wait for the device a step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fssbench.engine.ahead import Ahead
from fssbench.engine.counting import Resolution, columns_of, counts_of, labels_at, pair_table, truth_at
from fssbench.engine.devices import to_device
from fssbench.method import Method

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes
    from fssbench.engine.sources import ImageSource

KEEP = 64  # truths on the device
Query = tuple[int, tuple[int, ...]]  # an image, and the classes it is asked for


class Marks:
    """Counts for a fold's episodes at the protocol's resolution."""

    def __init__(self, bank: Bank, images: ImageSource, episodes: Episodes, device: torch.device) -> None:
        self._sizes, self._episodes = bank.image_sizes, episodes
        self._resolution, self._device = Resolution.of(bank.protocol), device
        self._columns: OrderedDict[Query, Tensor] = OrderedDict()
        self._truths: Ahead[Query] = Ahead(lambda key: torch.from_numpy(images.query_truth(*key)), 1)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Begin to decode the truths of episodes, while their features and logits are made."""
        self._truths.prefetch(key for key in map(self._key, rows.tolist()) if key not in self._columns)

    def of(
        self, method: Method, logits: Sequence[Tensor], rows: NDArray[np.int64]
    ) -> tuple[list[Tensor], NDArray[np.int64], NDArray[np.bool_]]:
        """Of every episode: its label, H x W on the device; its counts, rows x 6; whether its logits are finite."""
        ways = int(self._episodes.classes.shape[1])
        labels = self._labels(method, logits, rows, ways)
        tables = [pair_table(label, self._truth(row), ways) for row, label in zip(rows.tolist(), labels, strict=True)]
        sound = torch.stack([torch.isfinite(one).all() for one in logits])
        found = torch.cat([torch.stack(tables).flatten(1), sound[:, None].long()], 1).cpu().numpy()  # the one wait
        return labels, counts_of(found[:, :-1].reshape(-1, ways + 1, ways + 2)), found[:, -1] > 0

    def close(self) -> None:
        """Stop the thread, and let go of what is on the device."""
        self._truths.close()
        self._columns.clear()

    def _labels(self, method: Method, logits: Sequence[Tensor], rows: NDArray[np.int64], ways: int) -> list[Tensor]:
        """The label of every episode; queries of one size that follow each other are resized together."""
        sizes = [tuple(self._sizes[int(self._episodes.query[row])].tolist()) for row in rows]
        labels: list[Tensor] = []
        for size, same in groupby(range(len(rows)), key=lambda i: sizes[i]):
            together = torch.stack([logits[i] for i in same])
            labels += labels_at(method, together, ways, size, method.query_input, self._resolution)
        return labels

    def _truth(self, row: int) -> Tensor:
        """The query's truth at the scoring resolution, as columns of `pair_table`."""
        key = self._key(row)
        if key not in self._columns:
            truth = to_device(self._truths.get(key), self._device)
            self._columns[key] = columns_of(truth_at(truth, self._resolution), len(key[1]))
            if len(self._columns) > KEEP:
                self._columns.popitem(last=False)
        return self._columns[key]

    def _key(self, row: int) -> Query:
        return int(self._episodes.query[row]), tuple(self._episodes.classes[row].tolist())
