"""Opening a bank: everything a benchmark may see, read-only and checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import label_hash
from fssbench.banks.seal import check_body, read_seal
from fssbench.datasets.base import VOID, Mask
from fssbench.datasets.decode import decode_mask
from fssbench.errors import BankError, DataError
from fssbench.protocol import Protocol, parse_protocol

__all__ = ["Bank", "Episodes", "newest_bank", "open_bank"]

UNKNOWN = "0" * 64


def open_bank(path: Path, *, verify: bool = True) -> Bank:
    """Open a bank for reading. `verify=False` skips the hash of the whole file, for a process whose parent made it.

    Raises `BankError` for a file that is absent, no bank, of another version, truncated or damaged.
    """
    seal = read_seal(path)
    if verify:
        check_body(path, seal)
    return Bank(path)


class Bank:
    """A bank on disk. It may be pickled and used after a fork: each process opens the file for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: h5py.File | None = None
        self._process = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None, "_process": 0}

    def close(self) -> None:
        """Close this process's handle."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    # What the bank is

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of what the benchmark depends on (fssbench.banks.fingerprint)."""
        return self._attribute("/", "fingerprint")

    @cached_property
    def dataset(self) -> str:
        """The data set's name."""
        return self._attribute("/", "dataset")

    @cached_property
    def pool(self) -> str:
        """The image list that episodes were drawn from."""
        return self._attribute("/", "pool")

    @cached_property
    def note(self) -> str:
        """What whoever reads results should know, e.g. classes that were skipped."""
        return self._attribute("/", "note")

    @cached_property
    def protocol(self) -> Protocol:
        """How the episodes were drawn and are to be scored."""
        return parse_protocol(self._attribute("/", "protocol"))

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Class id -> name."""
        names = self._texts("classes/name")
        return dict(zip(self._array("classes/id").tolist(), names, strict=True))

    @cached_property
    def fold_classes(self) -> dict[int, tuple[int, ...]]:
        """Fold -> the classes its episodes are of."""
        folds = sorted(int(name) for name in self._members("folds"))
        return {fold: tuple(self._array(f"folds/{fold}/classes").tolist()) for fold in folds}

    @cached_property
    def draws(self) -> tuple[int, ...]:
        """The numbers of shots that were drawn. A nested bank holds one draw and serves every smaller number."""
        fold = next(iter(self.fold_classes))
        return tuple(sorted(int(name) for name in self._members(f"folds/{fold}") if name != "classes"))

    @property
    def shots(self) -> int:
        """The largest number of shots."""
        return self.draws[-1]

    @cached_property
    def ways(self) -> int:
        """Classes an episode."""
        fold = next(iter(self.fold_classes))
        return int(self._array(f"folds/{fold}/{self.shots}/classes").shape[1])

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
        group = f"folds/{fold}/{drawn}"
        columns = {name: self._array(f"{group}/{name}") for name in self._members(group)}
        columns["support"] = columns["support"][:, :, :wanted]
        return Episodes(**columns)

    # Images and masks, by number

    @cached_property
    def image_ids(self) -> list[str]:
        """The data set's names of the images, ascending."""
        return self._texts("images/id")

    @cached_property
    def image_sizes(self) -> NDArray[np.int64]:
        """n x 2: height, width."""
        return np.stack([self._array("images/height"), self._array("images/width")], axis=1)

    @cached_property
    def has_images(self) -> bool:
        """False for an index bank, which holds no image or mask bytes."""
        return "bytes" in self._members("images")

    def image_sha256(self, i: int) -> str:
        """Hex SHA-256 of the image file's bytes; empty where the bank was made from masks alone."""
        found = bytes(self._image_hashes[i]).hex()
        return "" if found == UNKNOWN else found

    def mask_sha256(self, i: int) -> str:
        """Hex SHA-256 of the label map (fssbench.banks.scan.label_hash)."""
        return bytes(self._mask_hashes[i]).hex()

    def image_bytes(self, i: int) -> bytes:
        """The image file's own bytes. Raises `BankError` for an index bank, or if they are not what was stored."""
        encoded = self._blob("images", i)
        if hashlib.sha256(encoded).hexdigest() != self.image_sha256(i):
            raise BankError(f"{self.path}: image {self.image_ids[i]} is not what was stored. Copy the bank again.")
        return encoded

    def mask(self, i: int) -> Mask:
        """The label map's own bytes."""
        return Mask(self._blob("masks", i), int(self._mask_classes[i]))

    def label_map(self, i: int) -> NDArray[np.uint8]:
        """H x W class ids, 0 background, 255 void (uint16 for binary masks of class ids from 255 on).

        Raises `BankError` for an index bank, or if the map is not what was stored.
        """
        where = f"{self.path}: mask of {self.image_ids[i]}"
        try:
            labels = decode_mask(self.mask(i), where)
        except DataError as error:
            raise BankError(str(error)) from error
        if label_hash(labels) != self.mask_sha256(i):
            raise BankError(f"{where} is not what was stored. Copy the bank again.")
        return labels

    # Annotations of supports

    @cached_property
    def annotation_kinds(self) -> tuple[str, ...]:
        """What `annotation` knows: "mask", and what was derived when the bank was made."""
        return ("mask", *(self._members("annotations") if "annotations" in self._members("/") else ()))

    def annotation_rule(self, kind: str) -> str:
        """The rule and seed that an annotation was derived by."""
        return self._attribute(f"annotations/{kind}", "rule")

    def annotation(self, kind: str, i: int, class_id: int) -> NDArray[np.uint8]:
        """H x W codes for one class: 0 background, 1 object, 3 unlabelled, 255 void.

        Raises `BankError` for a kind the bank does not hold, or a class that image i never supports.
        """
        if kind == "mask":
            return self._mask_codes(i, class_id)
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
        with Image.open(io.BytesIO(self._blob(f"annotations/{kind}", row))) as image:
            codes: NDArray[np.uint8] = np.asarray(image, dtype=np.uint8)
        return codes

    def _mask_codes(self, i: int, class_id: int) -> NDArray[np.uint8]:
        labels = self.label_map(i)
        codes: NDArray[np.uint8] = np.where(labels == class_id, np.uint8(1), np.uint8(0))
        if not self._mask_classes[i]:
            codes[labels == VOID] = VOID
        return codes

    def _annotation_rows(self, kind: str) -> dict[tuple[int, int], int]:
        if kind not in self._rows:
            images = self._array(f"annotations/{kind}/image").tolist()
            classes = self._array(f"annotations/{kind}/class").tolist()
            self._rows[kind] = {pair: row for row, pair in enumerate(zip(images, classes, strict=True))}
        return self._rows[kind]

    # The file

    @property
    def _file(self) -> h5py.File:
        """This process's handle, opened on first use and never shared with a forked child."""
        if self._handle is None or self._process != os.getpid():
            try:
                self._handle = h5py.File(self.path, "r", locking=False)
            except OSError as error:
                raise BankError(f"{self.path}: the bank cannot be read ({error}). Copy it again.") from error
            self._process = os.getpid()
        return self._handle

    @cached_property
    def _rows(self) -> dict[str, dict[tuple[int, int], int]]:
        return {}

    @cached_property
    def _image_hashes(self) -> NDArray[np.uint8]:
        return self._array("images/sha256")

    @cached_property
    def _mask_hashes(self) -> NDArray[np.uint8]:
        return self._array("masks/sha256")

    @cached_property
    def _mask_classes(self) -> NDArray[np.int64]:
        return self._array("masks/class_id")

    def _array(self, name: str) -> NDArray[Any]:
        with self._reading(name):
            return np.asarray(self._file[name][()])

    def _attribute(self, name: str, key: str) -> str:
        with self._reading(f"{name} {key}"):
            return str(self._file[name].attrs[key])

    def _members(self, group: str) -> list[str]:
        """Names in a group, ascending."""
        with self._reading(group):
            return sorted(self._file[group])

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """HDF5's own checksums fail with these errors, if the file changed after it was opened."""
        try:
            yield
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise BankError(f"{self.path}: {what} cannot be read ({error}). Copy the bank again.") from error

    def _texts(self, name: str) -> list[str]:
        return [text.decode("utf-8") for text in self._array(name).tolist()]

    def _blob(self, group: str, i: int) -> bytes:
        if not self.has_images:
            raise BankError(
                f"{self.path}: expected a bank with images, found an index bank, which holds none. "
                "Bind it to local data by `fssbench attach`."
            )
        start, end = self._offsets(group)[i : i + 2]
        with self._reading(f"{group} {i}"):
            return bytes(self._file[f"{group}/bytes"][start:end])

    def _offsets(self, group: str) -> NDArray[np.int64]:
        if group not in self._offset_cache:
            self._offset_cache[group] = self._array(f"{group}/offset")
        return self._offset_cache[group]

    @cached_property
    def _offset_cache(self) -> dict[str, NDArray[np.int64]]:
        return {}


def newest_bank(folder: Path, dataset: str | None = None, ways: int | None = None) -> Path:
    """The bank that was written last, index banks left out; of one data set and number of ways, if asked for.

    Raises `BankError` if there is none.
    """
    paths = sorted(folder.glob("*.h5"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        with open_bank(path, verify=False) as bank:
            if bank.has_images and dataset in (None, bank.dataset) and ways in (None, bank.ways):
                return path
    wanted = f"a bank of {dataset}" if dataset else "a bank"
    raise BankError(
        f"expected {wanted}{f' with {ways} ways' if ways else ''} under {folder}, found none among {len(paths)} .h5 "
        f"files. Make one by `fssbench generate-episodes {dataset or 'pascal5i'}`, or name one by --bank."
    )
