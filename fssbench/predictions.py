"""Predicted masks on disk, in a form that any program can write (docs/formats/predictions.md).

HDF5 whose structure is checked as a bank's is, for it may come from anyone. Root attributes, texts of fixed length:
`format` = "fssbench predictions", `version` = "2", `bank` = the bank's fingerprint. One group a fold, `/folds/<i>`:

* `episode`: int64, E entries, the episodes' numbers in the bank's fold, each once;
* `bytes`, `offset`: uint8, and int64 of E + 1 entries; prediction e is the PNG file `bytes[offset[e]:offset[e + 1]]`,
  8 bits a pixel, of the scoring resolution's size, 0 for background and n for the n-th way.

While a run goes on, predictions are in its journal (`fssbench.engine.journal`); this file is made of it at the end,
atomically.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Self

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
FILE = "predictions.h5"
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
        raise RecordError(f"{path}: expected HDF5 of superblock 3, found a file of another kind. {_ADVICE}")


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


def _full(path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"{path} could not be written ({error.strerror or error}). What was written before is safe; "
        "make room and run the same command again to go on."
    )
