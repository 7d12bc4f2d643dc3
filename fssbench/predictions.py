"""Predicted masks on disk, in a form that any program can write.

HDF5, one group a fold, `/folds/<i>`, with four arrays:

* `png`: uint8, the PNG files of all predictions one after the other. Each is an 8-bit grey image of the scoring
  resolution's size with 0 for background and n for the n-th way (1 for the object of a 1-way episode);
* `start`, `stop`: int64, E entries each; prediction e is `png[start[e]:stop[e]]`;
* `episode`: int64, E entries, the episode's number in the bank's fold.

Root attributes: `format` = "fssbench predictions", `version` = 1, `bank` = the bank's fingerprint.

While a run goes on, predictions are appended to a journal; the HDF5 file is made of it at the end, atomically.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.datasets.reading import encode_png
from fssbench.errors import RecordError
from fssbench.files import atomic_path

FORMAT, VERSION = "fssbench predictions", 1
FILE, JOURNAL = "predictions.h5", "predictions.journal"
_HEADER = struct.Struct("<qqqI")  # fold, episode, bytes, CRC-32 of the bytes
_CHUNK = 1 << 20


def encode_label(label: NDArray[np.uint8]) -> bytes:
    """A label map as a PNG of 8 bits a pixel."""
    return encode_png(label)


class PredictionWriter:
    """Collects predictions of a run in `folder`; safe against being killed at any moment."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        self._folder = folder
        self._path = folder / JOURNAL
        self._file = self._path.open("wb" if fresh or not self._path.exists() else "r+b")
        self._file.seek(_whole_bytes(self._path))
        self._file.truncate()

    def append(self, fold: int, labels: Sequence[tuple[int, NDArray[np.uint8]]]) -> None:
        """Add the predictions of a step and sync them to disk."""
        try:
            for episode, label in labels:
                data = encode_label(label)
                self._file.write(_HEADER.pack(fold, episode, len(data), zlib.crc32(data)) + data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordError(_full(self._path, error)) from error

    def finish(self, bank: str, record: str) -> None:
        """Make `predictions.h5`; the journal stays until `delete`, as the record may still fail to be written."""
        try:
            self._file.flush()
            write_predictions(self._folder / FILE, bank, _entries(self._path), record)
        except OSError as error:
            raise RecordError(_full(self._folder / FILE, error)) from error

    def delete(self) -> None:
        """The record is finished: the journal has done its work."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; it stays on disk."""
        with contextlib.suppress(OSError):  # what a full disk did not take was told when it was written
            self._file.close()


def write_predictions(path: Path, bank: str, entries: Iterator[tuple[int, int, bytes]], record: str = "") -> None:
    """Write (fold, episode, PNG) entries; a later entry of an episode replaces an earlier one."""
    # Made in memory, a few KB an episode: HDF5 cannot close a file on a full disk, and takes the process with it.
    with (
        atomic_path(path) as temporary,
        h5py.File(path.name, "w", driver="core", backing_store=False, libver="latest") as file,
    ):
        file.attrs.update({"format": FORMAT, "version": VERSION, "bank": bank, "record": record})
        index: dict[int, dict[int, tuple[int, int]]] = {}
        ends: dict[int, int] = {}
        for fold, episode, data in entries:
            if fold not in index:
                group = file.create_group(f"folds/{fold}")
                group.create_dataset("png", (0,), "u1", maxshape=(None,), chunks=(_CHUNK,), fletcher32=True)
                index[fold], ends[fold] = {}, 0
            blob = file[f"folds/{fold}/png"]
            start = ends[fold]
            ends[fold] = start + len(data)
            if ends[fold] > blob.shape[0]:
                blob.resize((max(ends[fold], 2 * blob.shape[0]),))
            blob[start : ends[fold]] = np.frombuffer(data, np.uint8)
            index[fold][episode] = start, ends[fold]
        for fold, places in index.items():
            group = file[f"folds/{fold}"]
            group["png"].resize((ends[fold],))
            episodes = sorted(places)
            for name, values in (
                ("episode", episodes),
                ("start", [places[e][0] for e in episodes]),
                ("stop", [places[e][1] for e in episodes]),
            ):
                group.create_dataset(name, data=np.array(values, np.int64), chunks=True, fletcher32=True)
        file.flush()
        temporary.write_bytes(file.id.get_file_image())


class Predictions:
    """Predictions read from a file of this format. Raises `RecordError` if it is none, or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            if self._file.attrs.get("format") != FORMAT or self._file.attrs.get("version") != VERSION:
                raise RecordError(f"{path}: expected {FORMAT!r} version {VERSION}, found another kind of HDF5 file")
            self.bank: str = str(self._file.attrs.get("bank", ""))
            self._index = {int(fold): self._places(fold) for fold in self._file["folds"]}
        except (OSError, KeyError) as error:
            raise RecordError(f"{path} is no readable file of predictions: {error}") from error

    @property
    def folds(self) -> list[int]:
        """The folds that have a prediction."""
        return list(self._index)

    def episodes(self, fold: int) -> list[int]:
        """The episodes of a fold that have a prediction."""
        return list(self._index.get(fold, {}))

    def mask(self, fold: int, episode: int) -> NDArray[np.uint8]:
        """H x W labels, 0..N. Raises `RecordError` for an episode without a prediction."""
        try:
            with Image.open(io.BytesIO(self.encoded(fold, episode))) as image:
                return np.asarray(image.convert("L") if image.mode != "P" else image, dtype=np.uint8)
        except (OSError, SyntaxError) as error:
            raise RecordError(f"{self.path}: the prediction of fold {fold}, episode {episode} is damaged") from error

    def encoded(self, fold: int, episode: int) -> bytes:
        """A prediction's PNG file. Raises `RecordError` for an episode without one."""
        try:
            start, stop = self._index[fold][episode]
        except KeyError:
            raise RecordError(f"{self.path} holds no prediction for episode {episode} of fold {fold}") from None
        return bytes(self._file[f"folds/{fold}/png"][start:stop].tobytes())

    def __enter__(self) -> Predictions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _places(self, fold: str) -> dict[int, tuple[int, int]]:
        group = self._file["folds"][fold]
        starts, stops = group["start"][:].tolist(), group["stop"][:].tolist()
        return dict(zip(group["episode"][:].tolist(), zip(starts, stops, strict=True), strict=True))


def open_predictions(path: Path) -> Predictions:
    """Open `predictions.h5` (use as a context manager)."""
    return Predictions(path)


def _entries(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """The whole entries of a journal."""
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            fold, episode, length, crc = _HEADER.unpack(header)
            data = file.read(length)
            if len(data) != length or zlib.crc32(data) != crc:
                return
            yield fold, episode, data


def _full(path: Path, error: OSError) -> str:
    return (
        f"{path} could not be written ({error.strerror or error}). What was written before is safe; "
        "make room and run the same command again to go on."
    )


def _whole_bytes(path: Path) -> int:
    return sum(_HEADER.size + len(data) for _, _, data in _entries(path))
