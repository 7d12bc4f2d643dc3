"""Support labels at a network's input size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fssbench.engine.ahead import Ahead
from fssbench.engine.inputs import fit_label
from fssbench.engine.sources import ImageSource
from fssbench.method import Preprocess

KEEP_BYTES = 64 << 20


@dataclass(frozen=True)
class SupportKey:
    """One support as one way sees it: what `encode_support` depends on besides the weights."""

    image: int
    class_id: int
    others: tuple[int, ...]  # classes of the episode's other ways, ascending


class Labels:
    """Support labels as H x W uint8 codes (see `fssbench.method`), made on threads ahead of their time."""

    def __init__(self, source: ImageSource, workers: int = 1) -> None:
        self._source = source
        self._ahead: Ahead[tuple[SupportKey, Preprocess]] = Ahead(self._make, workers, KEEP_BYTES)

    def prefetch(self, keys: Iterable[tuple[SupportKey, Preprocess]]) -> None:
        """Begin to make labels that will be asked for soon."""
        self._ahead.prefetch(keys)

    def get(self, key: SupportKey, how: Preprocess) -> Tensor:
        """H x W codes of a support at the size of `how`."""
        return self._ahead.get((key, how))

    def close(self) -> None:
        """Stop the threads."""
        self._ahead.close()

    def _make(self, key: tuple[SupportKey, Preprocess]) -> Tensor:
        support, how = key
        return fit_label(self._source.support_codes(support.image, support.class_id, support.others), how)
