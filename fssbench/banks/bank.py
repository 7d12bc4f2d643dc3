"""Opening a bank: everything a benchmark may see, read-only and checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.banks.reader import Reader
from fssbench.banks.sampling import Episodes
from fssbench.datasets.decode import decode_mask, opened_image
from fssbench.datasets.masks import Labels, Layers, Mask, label_hash
from fssbench.errors import BankError, DataError, ProtocolError
from fssbench.names import name_problem, wrong_image_id
from fssbench.protocol import Protocol, parse_protocol

__all__ = ["Bank", "Episodes", "newest_bank", "open_bank"]

UNKNOWN = "0" * 64
PIXELS = Image.MAX_IMAGE_PIXELS or 0  # of the largest image
CLASSES = 65534  # the largest class id: what 16 bits hold beside void


def open_bank(path: Path) -> Bank:
    """Open a bank for reading. Its structure is checked, at a cost that does not depend on its size; everything that is
    read later is checked then, and all of it by `fssbench verify`.

    Raises `BankError` for a file that is absent, no bank, of another version, truncated or damaged.
    """
    bank = Bank(path)
    bank.check_open()
    return bank


class Bank:
    """A bank on disk. It may be pickled and used after a fork: each process opens the file for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = Reader(path)
        self._last: tuple[int, Labels | None] = (-1, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_reader": self._reader, "_last": (-1, None)}

    def check_open(self) -> None:
        """Open and check the file. Raises `BankError`."""
        self._reader.open()
        self.dataset, self.fingerprint, self.protocol  # noqa: B018  what names and paths are made of

    def close(self) -> None:
        """Close this process's handle."""
        self._reader.close()

    # What the bank is

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of what the benchmark depends on (fssbench.banks.fingerprint)."""
        return self._digest("fingerprint")

    @cached_property
    def image_fingerprint(self) -> str:
        """Hex SHA-256 of the same and of the image files; empty where one of those is not known."""
        return self._digest("image_fingerprint", or_none=True)

    @cached_property
    def dataset(self) -> str:
        """The data set's name, which may stand in a path."""
        name = self._reader.attribute("/", "dataset")
        if problem := name_problem(name):
            raise BankError(f"{self.path}: the data set's name is {problem}. This bank is not to be trusted.")
        return name

    @cached_property
    def pool(self) -> str:
        """The image list that episodes were drawn from."""
        return self._reader.attribute("/", "pool")

    @cached_property
    def note(self) -> str:
        """What whoever reads results should know, e.g. classes that were skipped."""
        return self._reader.attribute("/", "note")

    @cached_property
    def protocol(self) -> Protocol:
        """How the episodes were drawn and are to be scored."""
        try:
            return parse_protocol(self._reader.attribute("/", "protocol"))
        except ProtocolError as error:
            raise BankError(f"{self.path}: {error}") from error

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Class id -> name."""
        ids, names = self._reader.array("classes/id"), self._reader.texts("classes/name")
        self._expect("classes/id", ids, 1, CLASSES, ascending=True)
        wrong = [name for name in names if not name or not name.isprintable()]
        if wrong or not names:
            raise BankError(f"{self.path}: classes/name: expected names on one line, found {wrong[:1]}.")
        return dict(zip(ids.tolist(), names, strict=True))

    @cached_property
    def fold_classes(self) -> dict[int, tuple[int, ...]]:
        """Fold -> the classes its episodes are of."""
        classes = {}
        for fold in sorted(int(name) for name in self._reader.members("folds")):
            found = self._reader.array(f"folds/{fold}/classes")
            known = np.isin(found, [*self.class_names]).all()
            if not known or not found.size or len(set(found.tolist())) != len(found):
                raise BankError(f"{self.path}: folds/{fold}/classes: expected classes of the bank, each once.")
            classes[fold] = tuple(found.tolist())
        return classes

    @cached_property
    def draws(self) -> tuple[int, ...]:
        """The numbers of shots that were drawn. A nested bank holds one draw and serves every smaller number."""
        draws = {tuple(self._reader.members(f"folds/{fold}")) for fold in self.fold_classes}
        if len(draws) != 1:
            raise BankError(f"{self.path}: expected the same numbers of shots in all folds, found {sorted(draws)}.")
        return tuple(sorted(int(name) for name in draws.pop() if name != "classes"))

    @property
    def shots(self) -> int:
        """The largest number of shots."""
        return self.draws[-1]

    @cached_property
    def ways(self) -> int:
        """Classes an episode."""
        return int(self.episodes(next(iter(self.fold_classes))).classes.shape[1])

    def episodes(self, fold: int, shots: int | None = None) -> Episodes:
        """A fold's episodes with `shots` supports a way (default: all). Raises `BankError` if it has no such."""
        if fold not in self.fold_classes:
            known = ", ".join(map(str, self.fold_classes))
            raise BankError(f"{self.path}: expected one of its folds {known}, found fold {fold}. Change --folds.")
        wanted = self.shots if shots is None else shots
        drawn = self.shots if self.protocol.nested else wanted
        if drawn not in self.draws or not 1 <= wanted <= drawn:
            known = f"1 to {self.shots}" if self.protocol.nested else " or ".join(map(str, self.draws))
            raise BankError(
                f"{self.path}: expected {known} shots, found {wanted}. Change --shots, "
                "or generate a bank with that number of shots."
            )
        drawn_episodes = self._drawn(fold, drawn)
        return replace(drawn_episodes, support=drawn_episodes.support[:, :, :wanted])

    def _drawn(self, fold: int, shots: int) -> Episodes:
        """A fold's episodes with all supports, every number in its range; read once."""
        if (fold, shots) not in self._episodes:
            group = f"folds/{fold}/{shots}"
            columns = {name: self._reader.array(f"{group}/{name}") for name in self._reader.members(group)}
            for name in ("query", "support", "auxiliary"):
                self._expect(f"{group}/{name}", columns.get(name, np.zeros(0)), 0, len(self.image_ids) - 1)
            self._expect(f"{group}/run", columns["run"], 0, len(self.protocol.seeds) - 1)
            self._expect(f"{group}/group", columns["group"], 0, len(columns["group"]) - 1)
            if not columns["query"].size or not np.isin(columns["classes"], self.fold_classes[fold]).all():
                raise BankError(f"{self.path}: {group}: expected episodes of the fold's classes, found others or none.")
            self._episodes[fold, shots] = Episodes(**columns)
        return self._episodes[fold, shots]

    # Images and masks, by number

    @cached_property
    def image_ids(self) -> list[str]:
        """The data set's names of the images, ascending."""
        ids = self._reader.texts("images/id")
        if problem := wrong_image_id(ids):
            raise BankError(f"{self.path}: images/id: expected names of images, found {problem}.")
        if not ids or any(first >= second for first, second in pairwise(ids)):
            raise BankError(f"{self.path}: images/id: expected names in ascending order, none twice.")
        return ids

    @cached_property
    def image_sizes(self) -> NDArray[np.int64]:
        """n x 2: height, width."""
        sizes = np.stack([self._reader.array("images/height"), self._reader.array("images/width")], axis=1)
        self._expect("images/height and width", sizes, 1, PIXELS)
        self._expect("images/height x width", sizes.prod(axis=1), 1, PIXELS)
        return sizes

    @cached_property
    def has_images(self) -> bool:
        """False for an index bank, which holds no image or mask bytes."""
        return "bytes" in self._reader.members("images")

    def image_sha256(self, i: int) -> str:
        """Hex SHA-256 of the image file's bytes; empty where the bank was made from masks alone."""
        found = bytes(self._image_hashes[i]).hex()
        return "" if found == UNKNOWN else found

    def image_bytes(self, i: int) -> bytes:
        """The image file's own bytes. Raises `BankError` for an index bank, or if they are not what was stored."""
        encoded = self._blob("images", i)
        if hashlib.sha256(encoded).hexdigest() != self.image_sha256(i):
            raise BankError(f"{self.path}: image {self.image_ids[i]} is not what was stored. Copy the bank again.")
        return encoded

    def mask_hashes(self, i: int) -> tuple[tuple[int, str], ...]:
        """(class id, hex SHA-256 of its label map) of image i's masks; class id 0: one label map of all classes."""
        return tuple((class_id, bytes(self._mask_hashes[row]).hex()) for class_id, row in self._mask_rows[i].items())

    def mask_files(self, i: int) -> tuple[Mask, ...]:
        """The masks' own bytes."""
        return tuple(Mask(self._blob("masks", row), class_id) for class_id, row in self._mask_rows[i].items())

    def mask(self, i: int, class_id: int) -> NDArray[np.uint8]:
        """H x W codes of one class: 0 background, 1 object, 255 void.

        Raises `BankError` for an index bank, or if the mask is not what was stored.
        """
        return self.truth(i, (class_id,))

    def truth(self, i: int, classes: Sequence[int]) -> NDArray[np.uint8]:
        """H x W: 0 background, n where the n-th of `classes` is, 255 where void is or where two of them overlap.

        Raises `BankError` as `mask` does.
        """
        rows = self._mask_rows[i]
        return (self._layers(i) if 0 in rows else self._layers(i, classes)).truth(classes)

    def layers(self, i: int) -> Layers:
        """All decoded masks of an image. Raises `BankError` as `mask` does."""
        return self._layers(i)

    def _layers(self, i: int, classes: Sequence[int] | None = None) -> Layers:
        """The masks of an image, or those of some classes; an empty one stands for a class that it does not show."""
        rows = self._mask_rows[i]
        wanted = rows if classes is None else [c for c in classes if c in rows] or [next(iter(rows))]
        maps = {class_id: self._label_map(i, class_id, rows[class_id]) for class_id in sorted(wanted)}
        return Layers(maps)

    def _label_map(self, i: int, class_id: int, row: int) -> Labels:
        if self._last[0] == row and self._last[1] is not None:
            return self._last[1]
        encoded, where = self._blob("masks", row), f"{self.path}: mask of {self.image_ids[i]}"
        height, width = self.image_sizes[i].tolist()
        try:
            with opened_image(encoded, where, "PNG mask") as header:
                if header.size != (width, height):
                    raise BankError(f"{where}: expected {height} x {width}, found {header.height} x {header.width}.")
            labels = decode_mask(Mask(encoded, class_id), where)
        except DataError as error:
            raise BankError(str(error)) from error
        if label_hash(labels) != bytes(self._mask_hashes[row]).hex():
            raise BankError(f"{where} is not what was stored. Copy the bank again.")
        labels.flags.writeable = False
        self._last = (row, labels)
        return labels

    # Annotations of supports

    @cached_property
    def annotation_kinds(self) -> tuple[str, ...]:
        """What `annotation` knows: "mask", and what was derived when the bank was made."""
        return ("mask", *(self._reader.members("annotations") if "annotations" in self._reader.members("/") else ()))

    def annotation_rule(self, kind: str) -> str:
        """The rule and seed that an annotation was derived by."""
        return self._reader.attribute(f"annotations/{kind}", "rule")

    def annotation(self, kind: str, i: int, class_id: int) -> NDArray[np.uint8]:
        """H x W codes for one class: 0 background, 1 object, 3 unlabelled, 255 void.

        Raises `BankError` for a kind the bank does not hold, or a class that image i never supports.
        """
        if kind == "mask":
            return self.mask(i, class_id)
        if kind not in self.annotation_kinds:
            raise BankError(
                f"{self.path}: expected one of its annotations {', '.join(self.annotation_kinds)}, found {kind!r}. "
                f"Generate the bank with --annotations {kind}."
            )
        row = self._annotation_rows(kind).get((i, class_id))
        if row is None:
            raise BankError(
                f"{self.path}: image {self.image_ids[i]} is no support of class {class_id}: no {kind} for it."
            )
        return self._codes(f"annotations/{kind}", row, i)

    def _codes(self, group: str, row: int, i: int) -> NDArray[np.uint8]:
        where = f"{self.path}: {group} of {self.image_ids[i]}"
        try:
            with opened_image(self._blob(group, row), where, "PNG of codes") as image:
                if image.mode not in ("L", "P") or (image.height, image.width) != tuple(self.image_sizes[i].tolist()):
                    raise BankError(
                        f"{where}: expected grey codes of the image's size, found {image.mode} {image.size}."
                    )
                return np.array(image)
        except DataError as error:
            raise BankError(str(error)) from error

    def _annotation_rows(self, kind: str) -> dict[tuple[int, int], int]:
        if kind not in self._rows:
            images, classes = (self._reader.array(f"annotations/{kind}/{column}") for column in ("image", "class"))
            self._expect(f"annotations/{kind}/image", images, 0, len(self.image_ids) - 1)
            pairs = zip(images.tolist(), classes.tolist(), strict=True)
            self._rows[kind] = {pair: row for row, pair in enumerate(pairs)}
        return self._rows[kind]

    # The file

    @cached_property
    def _rows(self) -> dict[str, dict[tuple[int, int], int]]:
        return {}

    @cached_property
    def _episodes(self) -> dict[tuple[int, int], Episodes]:
        return {}

    @cached_property
    def _image_hashes(self) -> NDArray[np.uint8]:
        return self._reader.array("images/sha256")

    @cached_property
    def _mask_hashes(self) -> NDArray[np.uint8]:
        return self._reader.array("masks/sha256")

    @cached_property
    def _mask_rows(self) -> list[dict[int, int]]:
        """Of each image: class id -> row of its mask. One row of class id 0, or others."""
        images, classes = self._reader.array("masks/image"), self._reader.array("masks/class_id")
        self._expect("masks/image", images, 0, len(self.image_ids) - 1)
        self._expect("masks/class_id", classes, 0, CLASSES)
        order = images * (CLASSES + 1) + classes
        self._expect("masks", order, 0, int(order.max(initial=0)), ascending=True)
        rows: list[dict[int, int]] = [{} for _ in self.image_ids]
        for row, (image, class_id) in enumerate(zip(images.tolist(), classes.tolist(), strict=True)):
            rows[image][class_id] = row
        if any(not found or (0 in found and len(found) > 1) for found in rows):
            raise BankError(f"{self.path}: masks: expected one label map an image, or one mask a class.")
        return rows

    def _digest(self, name: str, *, or_none: bool = False) -> str:
        text = self._reader.attribute("/", name)
        if not re.fullmatch("[0-9a-f]{64}", text) and not (or_none and not text):
            raise BankError(f"{self.path}: {name}: expected 64 hexadecimal digits, found {text[:80]!r}.")
        return text

    def _expect(self, name: str, values: NDArray[Any], least: int, most: int, *, ascending: bool = False) -> None:
        """Raises `BankError` for a value out of its range, or out of order."""
        outside = values[(values < least) | (values > most)]
        if outside.size:
            raise BankError(f"{self.path}: {name}: expected {least} to {most}, found {outside[0]}.")
        if ascending and values.size and (np.diff(values) <= 0).any():
            raise BankError(f"{self.path}: {name}: expected ascending numbers, none twice.")

    def _blob(self, group: str, i: int) -> bytes:
        if not self.has_images:
            raise BankError(
                f"{self.path}: expected a bank with images, found an index bank, which holds none. "
                "Bind it to local data by `fssbench attach`."
            )
        return self._reader.blob(group, i)


def newest_bank(folder: Path, dataset: str | None = None, ways: int | None = None) -> Path:
    """The bank that was written last, index banks left out; of one data set and number of ways, if asked for.

    Raises `BankError` if there is none.
    """
    unusable: list[str] = []
    paths = sorted(folder.glob("*.h5"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            with open_bank(path) as bank:
                if bank.has_images and dataset in (None, bank.dataset) and ways in (None, bank.ways):
                    return path
        except BankError as error:
            unusable.append(str(error))
    others = f" Not usable: {unusable[0]}" if unusable else ""
    wanted = f"a bank of {dataset}" if dataset else "a bank"
    raise BankError(
        f"expected {wanted}{f' with {ways} ways' if ways else ''} under {folder}, found none among {len(paths)} .h5 "
        f"files. Make one by `fssbench generate-episodes {dataset or 'pascal5i'}`, or name one by --bank.{others}"
    )
