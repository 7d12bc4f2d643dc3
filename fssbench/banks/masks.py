"""The masks of a bank's images, and the weaker annotations that were derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.reader import Reader
from fssbench.datasets.decode import decode_mask, opened_image
from fssbench.datasets.masks import LARGEST_CLASS, Labels, Layers, Mask, label_hash
from fssbench.errors import BankError, DataError

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank


class Masks:
    """Label maps and annotation codes by image number, decoded and checked when they are asked for."""

    def __init__(self, bank: Bank, reader: Reader) -> None:
        self._bank, self._reader = bank, reader
        self._last: tuple[int, Labels | None] = (-1, None)
        self._rows: dict[str, dict[tuple[int, int], int]] = {}

    def hashes(self, i: int) -> tuple[tuple[int, str], ...]:
        """(class id, hex SHA-256 of its label map) of image i's masks; class id 0: one label map of all classes."""
        return tuple((class_id, bytes(self._hashes[row]).hex()) for class_id, row in self._of_image[i].items())

    def files(self, i: int) -> tuple[Mask, ...]:
        """The masks' own bytes."""
        return tuple(Mask(self._bank.blob("masks", row), class_id) for class_id, row in self._of_image[i].items())

    def of_class(self, i: int, class_id: int) -> NDArray[np.uint8]:
        """H x W codes of one class: 0 background, 1 object, 255 void.

        Raises `BankError` for an index bank, or if the mask is not what was stored.
        """
        return self.truth(i, (class_id,))

    def truth(self, i: int, classes: Sequence[int]) -> NDArray[np.uint8]:
        """H x W: 0 background, n where the n-th of `classes` is, 255 where void is or where two of them overlap.

        Raises `BankError` as `of_class` does.
        """
        rows = self._of_image[i]
        return (self.layers(i) if 0 in rows else self.layers(i, classes)).truth(classes)

    def layers(self, i: int, classes: Sequence[int] | None = None) -> Layers:
        """The masks of an image, or those of some classes; an empty one stands for a class that it does not show.

        Raises `BankError` as `of_class` does.
        """
        rows = self._of_image[i]
        wanted = rows if classes is None else [c for c in classes if c in rows] or [next(iter(rows))]
        maps = {class_id: self._label_map(i, class_id, rows[class_id]) for class_id in sorted(wanted)}
        return Layers(maps)

    def _label_map(self, i: int, class_id: int, row: int) -> Labels:
        if self._last[0] == row and self._last[1] is not None:
            return self._last[1]
        encoded, where = self._bank.blob("masks", row), f"{self._bank.path}: mask of {self._bank.image_ids[i]}"
        height, width = self._bank.image_sizes[i].tolist()
        try:
            with opened_image(encoded, where, "PNG mask") as header:
                if header.size != (width, height):
                    raise BankError(f"{where}: expected {height} x {width}, found {header.height} x {header.width}.")
            labels = decode_mask(Mask(encoded, class_id), where)
        except DataError as error:
            raise BankError(str(error)) from error
        if label_hash(labels) != bytes(self._hashes[row]).hex():
            raise BankError(f"{where} is not what was stored. Copy the bank again.")
        labels.flags.writeable = False
        self._last = (row, labels)
        return labels

    # Annotations of supports

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """What `annotation` knows: "mask", and what was derived when the bank was made."""
        return ("mask", *(self._reader.members("annotations") if "annotations" in self._reader.members("/") else ()))

    def rule(self, kind: str) -> str:
        """The rule and seed that an annotation was derived by."""
        return self._reader.attribute(f"annotations/{kind}", "rule")

    def annotation(self, kind: str, i: int, class_id: int) -> NDArray[np.uint8]:
        """H x W codes for one class: 0 background, 1 object, 3 unlabelled, 255 void.

        Raises `BankError` for a kind the bank does not hold, or a class that image i never supports.
        """
        if kind == "mask":
            return self.of_class(i, class_id)
        if kind not in self.kinds:
            raise BankError(
                f"{self._bank.path}: expected one of its annotations {', '.join(self.kinds)}, found {kind!r}. "
                f"Generate the bank with --annotations {kind}."
            )
        row = self._annotation_rows(kind).get((i, class_id))
        if row is None:
            raise BankError(
                f"{self._bank.path}: image {self._bank.image_ids[i]} is no support of class {class_id}: "
                f"no {kind} for it."
            )
        return self._codes(f"annotations/{kind}", row, i)

    def _codes(self, group: str, row: int, i: int) -> NDArray[np.uint8]:
        where, size = f"{self._bank.path}: {group} of {self._bank.image_ids[i]}", self._bank.image_sizes[i].tolist()
        try:
            with opened_image(self._bank.blob(group, row), where, "PNG of codes") as image:
                if image.mode not in ("L", "P") or [image.height, image.width] != size:
                    raise BankError(
                        f"{where}: expected grey codes of the image's size, found {image.mode} {image.size}."
                    )
                return np.array(image)
        except DataError as error:
            raise BankError(str(error)) from error

    def _annotation_rows(self, kind: str) -> dict[tuple[int, int], int]:
        if kind not in self._rows:
            images, classes = (self._reader.array(f"annotations/{kind}/{column}") for column in ("image", "class"))
            self._reader.expect(f"annotations/{kind}/image", images, 0, len(self._bank.image_ids) - 1)
            pairs = zip(images.tolist(), classes.tolist(), strict=True)
            self._rows[kind] = {pair: row for row, pair in enumerate(pairs)}
        return self._rows[kind]

    # Tables

    @cached_property
    def _hashes(self) -> NDArray[np.uint8]:
        return self._reader.array("masks/sha256")

    @cached_property
    def _of_image(self) -> list[dict[int, int]]:
        """Of each image: class id -> row of its mask. One row of class id 0, or others."""
        images, classes = self._reader.array("masks/image"), self._reader.array("masks/class_id")
        self._reader.expect("masks/image", images, 0, len(self._bank.image_ids) - 1)
        self._reader.expect("masks/class_id", classes, 0, LARGEST_CLASS)
        order = images * (LARGEST_CLASS + 1) + classes
        self._reader.expect("masks", order, 0, int(order.max(initial=0)), ascending=True)
        rows: list[dict[int, int]] = [{} for _ in self._bank.image_ids]
        for row, (image, class_id) in enumerate(zip(images.tolist(), classes.tolist(), strict=True)):
            rows[image][class_id] = row
        if any(not found or (0 in found and len(found) > 1) for found in rows):
            raise BankError(f"{self._bank.path}: masks: expected one label map an image, or one mask a class.")
        return rows
