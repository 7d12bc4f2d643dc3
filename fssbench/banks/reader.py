"""A HDF5 file from anyone: opened once a process, its structure checked first, every read guarded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fssbench.banks.schema import check_structure
from fssbench.banks.seal import read_seal
from fssbench.errors import BankError, FssbenchError

BLOB = 1 << 28  # bytes of the largest image or mask

Failures = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError)  # what h5py raises over a bad file


@dataclass(frozen=True)
class Format:
    """What tells a file of one kind: by its first bytes, which raises `error`, and by its objects, a `ValueError`."""

    check_header: Callable[[Path], object]
    check_structure: Callable[[h5py.File], None]
    error: type[FssbenchError]
    advice: str


BANK = Format(read_seal, check_structure, BankError, "Copy the bank again, or generate it again.")


class Reader:
    """Arrays, texts and blobs by name. It may be pickled and used after a fork: each process opens the file itself.

    Everything raises the format's error, naming the file, for what is absent, damaged or not of the format.
    """

    def __init__(self, path: Path, kind: Format = BANK) -> None:
        self.path, self._kind = path, kind
        self._handle: h5py.File | None = None
        self._process = 0
        self._offsets: dict[str, NDArray[np.int64]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_kind": self._kind, "_handle": None, "_process": 0, "_offsets": {}}

    def open(self) -> h5py.File:
        """This process's handle, opened and checked on first use and never shared with a forked child."""
        if self._handle is None or self._process != os.getpid():
            self._kind.check_header(self.path)
            with self.reading("the file"):
                handle = h5py.File(self.path, "r", locking=False)
                try:
                    self._kind.check_structure(handle)
                except BaseException:
                    handle.close()
                    raise
            self._handle, self._process = handle, os.getpid()
        return self._handle

    def close(self) -> None:
        """Close this process's handle."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def array(self, name: str) -> NDArray[Any]:
        """A whole table's column."""
        with self.reading(name):
            return np.asarray(self.open()[name][()])

    def texts(self, name: str) -> list[str]:
        """A column of texts."""
        with self.reading(name):
            return [text.decode("utf-8") for text in self.array(name).tolist()]

    def attribute(self, name: str, key: str) -> str:
        """A text beside the data, on one line."""
        with self.reading(f"{name} {key}"):
            text = np.bytes_(self.open()[name].attrs[key]).decode("utf-8")
            if not text.isprintable():
                raise ValueError(f"expected text on one line, found {text[:80]!r}")
            return text

    def members(self, group: str) -> list[str]:
        """Names in a group, ascending."""
        with self.reading(group):
            return sorted(self.open()[group])

    def blob(self, group: str, i: int) -> bytes:
        """Byte string `i` of a group that has such."""
        with self.reading(f"{group} {i}"):
            start, end = self._places(group)[i : i + 2].tolist()
            return bytes(self.open()[f"{group}/bytes"][start:end])

    def expect(self, name: str, values: NDArray[Any], least: int, most: int, *, ascending: bool = False) -> None:
        """Check a column: raises for a value out of its range, or out of order."""
        outside = values[(values < least) | (values > most)]
        if outside.size:
            raise self._kind.error(f"{self.path}: {name}: expected {least} to {most}, found {outside[0]}.")
        if ascending and values.size and (np.diff(values) <= 0).any():
            raise self._kind.error(f"{self.path}: {name}: expected ascending numbers, none twice.")

    def _places(self, group: str) -> NDArray[np.int64]:
        if group not in self._offsets:
            offsets = self.array(f"{group}/offset")
            lengths, end = np.diff(offsets), self.open()[f"{group}/bytes"].shape[0]
            if offsets[0] != 0 or offsets[-1] != end or ((lengths < 0) | (lengths > BLOB)).any():
                raise ValueError(f"expected ascending places from 0 to {end}, none more than {BLOB} bytes long")
            self._offsets[group] = offsets
        return self._offsets[group]

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn what h5py raises, and `ValueError`s of a check, into the format's error about `what`."""
        try:
            yield
        except Failures as error:
            raise self._kind.error(f"{self.path}: {what} cannot be read ({error}). {self._kind.advice}") from error
