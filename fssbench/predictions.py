"""Predicted masks on disk, in a form that any program can write (docs/formats/predictions.md).

HDF5 whose structure is checked as a bank's is, for it may come from anyone. Root attributes, texts of fixed length:
`format` = "fssbench predictions", `version` = "2", `bank` = the bank's fingerprint. One group a fold, `/folds/<i>`:

* `episode`: int64, E entries, the episodes' numbers in the bank's fold, each once;
* `bytes`, `offset`: uint8, and int64 of E + 1 entries; prediction e is the PNG file `bytes[offset[e]:offset[e + 1]]`,
  8 bits a pixel, of the scoring resolution's size, 0 for background and n for the n-th way.

While a run goes on, predictions are appended to a journal; the HDF5 file is made of it at the end, atomically.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from fssbench.banks.hdf5 import Blobs, new_hdf5, put, put_texts
from fssbench.banks.reader import Format, Reader
from fssbench.banks.structure import Kind, Structure
from fssbench.datasets.decode import opened_image
from fssbench.datasets.reading import encode_png
from fssbench.errors import DataError, RecordError

FORMAT, VERSION = "fssbench predictions", "2"
FILE, JOURNAL = "predictions.h5", "predictions.journal"
_HEADER = struct.Struct("<qqq")  # fold, episode, bytes
_CRC = struct.Struct("<I")  # CRC-32 of header and bytes, between the two
_HDF5 = b"\x89HDF\r\n\x1a\n\x03"  # its structures have checksums from version 3 on


def encode_label(label: NDArray[np.uint8]) -> bytes:
    """A label map as a PNG of 8 bits a pixel."""
    return encode_png(label)


def decode_label(encoded: bytes, where: str) -> NDArray[np.uint8]:
    """H x W labels of a PNG. Raises `RecordError` (naming `where`) for bytes that are none, or a picture in colour."""
    try:
        with opened_image(encoded, where, "PNG of labels", ("PNG",)) as image:
            if image.mode not in ("L", "P", "1"):
                raise RecordError(f"{where}: expected a grey or palette PNG of labels, found mode {image.mode}.")
            return np.asarray(image, dtype=np.uint8)  # of a 1-bit image: 0 and 1
    except DataError as error:
        raise RecordError(str(error)) from error


class PredictionWriter:
    """Collects predictions of a run in `folder`; safe against being killed at any moment."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        self._folder, self._path = folder, folder / JOURNAL
        self._file = self._path.open("w+b" if fresh or not self._path.exists() else "r+b")
        for _ in _entries(self._file):
            pass  # to the end of the last whole entry
        self._file.truncate()

    def append(self, fold: int, labels: Sequence[tuple[int, NDArray[np.uint8]]]) -> None:
        """Add the predictions of a step and sync them to disk. A later one of an episode replaces an earlier one."""
        try:
            for episode, label in labels:
                data = encode_label(label)
                header = _HEADER.pack(fold, episode, len(data))
                self._file.write(header + _CRC.pack(zlib.crc32(header + data)) + data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _full(self._path, error) from error

    def finish(self, bank: str, record: str) -> None:
        """Make `predictions.h5`; the journal stays until `delete`, as the record may still fail to be written."""
        places = {(fold, episode): (start, size) for fold, episode, start, size in _entries(self._file)}
        entries = ((*key, _read(self._file, *place)) for key, place in sorted(places.items()))
        write_predictions(self._folder / FILE, bank, entries, record)

    def delete(self) -> None:
        """The record is finished: the journal has done its work."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; it stays on disk."""
        with contextlib.suppress(OSError):  # what a full disk did not take was told when it was written
            self._file.close()


def write_predictions(path: Path, bank: str, entries: Iterable[tuple[int, int, bytes]], record: str = "") -> None:
    """Write (fold, episode, PNG) entries, each fold's together. Raises `RecordError` if the disk is full."""
    try:
        with new_hdf5(path) as (file, check):
            put_texts(file, {"format": FORMAT, "version": VERSION, "bank": bank, "record": record})
            for fold, of_fold in groupby(entries, key=lambda entry: entry[0]):
                blobs, episodes = Blobs(file, f"folds/{fold}"), []
                for _, episode, data in of_fold:
                    check()
                    blobs.append(data)
                    episodes.append(episode)
                blobs.close()
                put(file, f"folds/{fold}/episode", np.array(episodes, np.int64))
    except OSError as error:
        raise _full(path, error) from error


class Predictions:
    """Predictions read from a file of this format. Raises `RecordError` if it is none, or damaged."""

    def __init__(self, path: Path) -> None:
        self.path, self._reader = path, Reader(path, _KIND)
        found = [self._reader.attribute("/", name) for name in ("format", "version")]
        if found != [FORMAT, VERSION]:
            raise RecordError(f"{path}: expected {FORMAT} {VERSION}, found {' '.join(found)}. {_KIND.advice}")
        self.bank = self._reader.attribute("/", "bank")
        self._rows = {int(fold): self._rows_of(fold) for fold in self._reader.members("folds")}

    def _rows_of(self, fold: str) -> dict[int, int]:
        episodes = self._reader.array(f"folds/{fold}/episode").tolist()
        if len(set(episodes)) != len(episodes) or min(episodes, default=0) < 0:
            raise RecordError(f"{self.path}: folds/{fold}/episode: expected numbers from 0, each once, found others.")
        return {episode: row for row, episode in enumerate(episodes)}

    @property
    def folds(self) -> list[int]:
        """The folds that have a prediction."""
        return list(self._rows)

    def episodes(self, fold: int) -> list[int]:
        """The episodes of a fold that have a prediction."""
        return list(self._rows.get(fold, {}))

    def mask(self, fold: int, episode: int) -> NDArray[np.uint8]:
        """H x W labels, 0..N. Raises `RecordError` for an episode without a prediction."""
        return decode_label(self.encoded(fold, episode), f"{self.path}: fold {fold}, episode {episode}")

    def encoded(self, fold: int, episode: int) -> bytes:
        """A prediction's PNG file. Raises `RecordError` for an episode without one."""
        row = self._rows.get(fold, {}).get(episode)
        if row is None:
            raise RecordError(f"{self.path} holds no prediction for episode {episode} of fold {fold}.")
        return self._reader.blob(f"folds/{fold}", row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def open_predictions(path: Path) -> Predictions:
    """Open `predictions.h5` (use as a context manager)."""
    return Predictions(path)


def _check_header(path: Path) -> None:
    """Raises `RecordError` for what is no HDF5 file with checksums."""
    try:
        with path.open("rb") as file:
            found = file.read(len(_HDF5))
    except OSError as error:
        raise RecordError(f"{path}: expected a file of predictions, found none that can be read ({error}).") from error
    if found != _HDF5:
        raise RecordError(f"{path}: expected HDF5 of superblock 3, found a file that begins with {found!r}. {_ADVICE}")


def _check_structure(file: h5py.File) -> None:
    """Raises `ValueError` unless the file has the groups, columns, types and storage of this format, and no others."""
    check = Structure(file)
    check.members("/", {"folds"}, ())
    for name in ("format", "version", "bank"):
        check.attribute("/", name)
    for fold in check.numbers("/folds", check.members("/folds", (), None)):
        if not check.columns(f"/folds/{fold}", {"episode": Kind(("predictions",))}, {}, blobs="predictions"):
            raise ValueError(f"/folds/{fold}: expected offset and bytes, found none")


_ADVICE = "Write it again by fssbench.predictions.write_predictions, or as its documentation says."
_KIND = Format(_check_header, _check_structure, RecordError, _ADVICE)


def _entries(file: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """(fold, episode, place, bytes) of a journal's whole entries. It stands behind the last of them at the end."""
    size, end = os.fstat(file.fileno()).st_size, 0
    while True:
        file.seek(end)
        head = file.read(_HEADER.size + _CRC.size)
        if len(head) < _HEADER.size + _CRC.size:
            break
        (fold, episode, length), (crc,) = _HEADER.unpack_from(head), _CRC.unpack_from(head, _HEADER.size)
        start = end + len(head)
        if not 0 <= length <= size - start or zlib.crc32(head[: _HEADER.size] + _read(file, start, length)) != crc:
            break
        yield fold, episode, start, length
        end = start + length
    file.seek(end)


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _full(path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"{path} could not be written ({error.strerror or error}). What was written before is safe; "
        "make room and run the same command again to go on."
    )
