"""Where pixels and labels come from: a bank here, a data set in training. The rest of the engine asks no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, VOID
from fssbench.scoring.pixels import scored_label

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank

Codes = NDArray[np.uint8]  # H x W


class ImageSource(Protocol):
    """Images by number, with what their pixels are to an episode."""

    def describe(self, image: int) -> str:
        """The image, as messages name it."""

    def image_bytes(self, image: int) -> bytes:
        """The image file's own bytes."""

    def support_codes(self, image: int, class_id: int, others: Sequence[int]) -> Codes:
        """What each pixel is to a way of class `class_id` in an episode whose other ways are of `others`.

        BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED or VOID (see `fssbench.method`).
        """

    def query_truth(self, image: int, classes: Sequence[int]) -> Codes:
        """0 background, n for the n-th way's class (from 1), 255 void; as the protocol scores it at its own size."""


class BankImages:
    """A bank's images, their supports labelled by one of its annotations."""

    def __init__(self, bank: Bank, annotation: str = "mask") -> None:
        self._bank, self._annotation = bank, annotation

    def describe(self, image: int) -> str:
        return f"image {self._bank.image_ids[image]} of {self._bank.path}"

    def image_bytes(self, image: int) -> bytes:
        return self._bank.image_bytes(image)

    def support_codes(self, image: int, class_id: int, others: Sequence[int]) -> Codes:
        codes = self._bank.masks.annotation(self._annotation, image, class_id).copy()
        for other in others:
            codes[(self._bank.masks.of_class(image, other) == OBJECT) & (codes == BACKGROUND)] = OTHER_WAY
        return codes

    def query_truth(self, image: int, classes: Sequence[int]) -> Codes:
        return scored_label(self._bank.masks.truth(image, classes), self._bank.protocol)


def support_codes(label_map: NDArray[np.integer], class_id: int, others: Sequence[int] = ()) -> Codes:
    """`ImageSource.support_codes` from a map of class ids.

    >>> support_codes(np.array([[0, 3, 7, 9, 255]]), 3, (7,)).tolist()
    [[0, 1, 2, 0, 255]]
    """
    codes = np.where(label_map == VOID, np.uint8(VOID), np.uint8(BACKGROUND))
    codes[label_map == class_id] = OBJECT
    if others:
        codes[np.isin(label_map, others)] = OTHER_WAY
    return codes


def query_truth(label_map: NDArray[np.integer], classes: Sequence[int]) -> Codes:
    """`ImageSource.query_truth` from a map of class ids.

    >>> query_truth(np.array([[0, 3, 7, 9, 255]]), (9, 3)).tolist()
    [[0, 2, 0, 1, 255]]
    """
    truth = np.where(label_map == VOID, np.uint8(VOID), np.uint8(BACKGROUND))
    for way, class_id in enumerate(classes, 1):
        truth[label_map == class_id] = way
    return truth
