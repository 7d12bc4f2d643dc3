"""Support labels at a network's input size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fssbench.engine.inputs import prepare_label, support_codes
from fssbench.method import OTHER_WAY, Preprocess, warn_if_empty

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fssbench.banks.bank import Bank


@dataclass(frozen=True)
class SupportKey:
    """One support as one way sees it: what `encode_support` depends on besides the weights."""

    image: int
    class_id: int
    others: tuple[int, ...]


class Labels:
    """Support labels at the network's input size, kept for as long as there is room for `limit` of them."""

    def __init__(self, bank: Bank, annotation: str, limit: int = 512) -> None:
        self._bank, self._annotation, self._limit = bank, annotation, limit
        self._kept: dict[tuple[SupportKey, Preprocess], Tensor] = {}

    def get(self, key: SupportKey, how: Preprocess) -> Tensor:
        """H x W uint8 codes of a support (see `fssbench.method`)."""
        found = self._kept.get((key, how))
        if found is None:
            found = torch.from_numpy(prepare_label(self._codes(key), how).copy())
            warn_if_empty(found)  # small objects can vanish when the label is resized
            if len(self._kept) >= self._limit:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key, how] = found
        return found

    def _codes(self, key: SupportKey) -> NDArray[np.uint8]:
        label_map = self._bank.label_map(key.image)
        if self._annotation == "mask":
            return support_codes(label_map, key.class_id, key.others)
        codes = self._bank.annotation(self._annotation, key.image, key.class_id).copy()
        for other in key.others:
            codes[(label_map == other) & (codes == 0)] = OTHER_WAY
        return codes
