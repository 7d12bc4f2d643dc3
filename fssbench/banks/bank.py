"""Opening a bank: everything a benchmark may see, read-only and checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.banks.masks import Masks
from fssbench.banks.reader import Reader
from fssbench.banks.sampling import Episodes
from fssbench.datasets.masks import LARGEST_CLASS
from fssbench.errors import BankError, ProtocolError
from fssbench.names import name_problem, wrong_image_id
from fssbench.protocol import Protocol, parse_protocol

__all__ = ["Bank", "Episodes", "open_bank"]

UNKNOWN = "0" * 64
PIXELS = Image.MAX_IMAGE_PIXELS or 0  # of the largest image


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_reader": self._reader}

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
        self._reader.expect("classes/id", ids, 1, LARGEST_CLASS, ascending=True)
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
                self._reader.expect(f"{group}/{name}", columns.get(name, np.zeros(0)), 0, len(self.image_ids) - 1)
            self._reader.expect(f"{group}/run", columns["run"], 0, len(self.protocol.seeds) - 1)
            self._reader.expect(f"{group}/group", columns["group"], 0, len(columns["group"]) - 1)
            if not columns["query"].size or not np.isin(columns["classes"], self.fold_classes[fold]).all():
                raise BankError(f"{self.path}: {group}: expected episodes of the fold's classes, found others or none.")
            self._episodes[fold, shots] = Episodes(**columns)
        return self._episodes[fold, shots]

    # Images, by number

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
        self._reader.expect("images/height and width", sizes, 1, PIXELS)
        self._reader.expect("images/height x width", sizes.prod(axis=1), 1, PIXELS)
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
        encoded = self.blob("images", i)
        if hashlib.sha256(encoded).hexdigest() != self.image_sha256(i):
            raise BankError(f"{self.path}: image {self.image_ids[i]} is not what was stored. Copy the bank again.")
        return encoded

    @cached_property
    def masks(self) -> Masks:
        """The images' masks and annotations."""
        return Masks(self, self._reader)

    def blob(self, group: str, i: int) -> bytes:
        """The bytes of image, mask or annotation `i` of a group. Raises `BankError` for an index bank."""
        if not self.has_images:
            raise BankError(
                f"{self.path}: expected a bank with images, found an index bank, which holds none. "
                "Bind it to local data by `fssbench attach`."
            )
        return self._reader.blob(group, i)

    # The file

    @cached_property
    def _episodes(self) -> dict[tuple[int, int], Episodes]:
        return {}

    @cached_property
    def _image_hashes(self) -> NDArray[np.uint8]:
        return self._reader.array("images/sha256")

    def _digest(self, name: str, *, or_none: bool = False) -> str:
        text = self._reader.attribute("/", name)
        if not re.fullmatch("[0-9a-f]{64}", text) and not (or_none and not text):
            raise BankError(f"{self.path}: {name}: expected 64 hexadecimal digits, found {text[:80]!r}.")
        return text
