"""Masks that any program made on a bank's episodes: `predictions.h5`, or a folder of PNG files that names its bank.

The folder holds `<fold>/<episode>.png`, and a `manifest.json` with the bank's fingerprint under `bank`: that of
`fssbench export` may be copied. A mask is of the query's size, 0 for background and n for the n-th way; at one way
every value but 0 may be 255.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.own.pixels import open_mask
from fssbench.datasets.reading import read_file, read_text, some
from fssbench.errors import DataError, RecordError
from fssbench.files import sha256_file
from fssbench.predictions import open_predictions

MANIFEST = "manifest.json"


class Submission(ABC):
    """Masks by fold and episode, made for one bank (use as a context manager)."""

    path: Path
    bank: str  # fingerprint

    @abstractmethod
    def episodes(self) -> dict[int, set[int]]:
        """Fold -> the episodes that have a mask."""

    @abstractmethod
    def encoded(self, fold: int, episode: int) -> bytes:
        """The PNG file of a mask."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over all masks."""

    def mask(self, fold: int, episode: int, ways: int) -> NDArray[np.uint8]:
        """H x W labels, 0..N. Raises `RecordError` for a file that holds none."""
        try:
            values = labels_of(self.encoded(fold, episode), f"{self.path}: fold {fold}, episode {episode}")
        except DataError as error:
            raise RecordError(str(error)) from error
        return (values == 255).astype(np.uint8) if ways == 1 and _is_black_and_white(values) else values

    def check(self, bank: str, title: str, wanted: dict[int, int], folds: Collection[int]) -> None:
        """Raises `RecordError` unless the masks are for this bank and for its episodes, `folds` of them complete.

        `bank` is its fingerprint, `title` what to call it, `wanted` fold -> number of episodes.
        """
        if self.bank != bank:
            raise RecordError(
                f"{self.path} holds masks for the bank {self.bank[:12] or '(none named)'}, expected {bank[:12]} "
                f"({title}). Results on different episodes cannot be compared; name the right --bank."
            )
        there = self.episodes()
        surplus = [f"{f}/{e}" for f, found in there.items() for e in sorted(found) if not e < wanted.get(f, 0)]
        missing = [f"{f}/{e}" for f in folds for e in range(wanted.get(f, 0)) if e not in there.get(f, ())]
        if surplus or missing:
            parts = [f"{len(names)} {what} ({some(names, 3)})" for what, names in
                     (("missing", missing), ("of no episode", surplus)) if names]  # fmt: skip
            raise RecordError(
                f"{self.path}: expected a mask for every episode of the bank (<fold>/<episode>) and no other, found "
                f"{' and '.join(parts)}. Segment every episode, or name the --folds you did."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close what was opened."""


class _File(Submission):
    def __init__(self, path: Path) -> None:
        self.path, self._file = path, open_predictions(path)
        self.bank = self._file.bank

    def episodes(self) -> dict[int, set[int]]:
        return {fold: set(self._file.episodes(fold)) for fold in self._file.folds}

    def encoded(self, fold: int, episode: int) -> bytes:
        return self._file.encoded(fold, episode)

    def digest(self) -> str:
        return sha256_file(self.path)

    def close(self) -> None:
        self._file.__exit__(None, None, None)


class _Folder(Submission):
    def __init__(self, path: Path) -> None:
        self.path, self.bank = path, _named_bank(path)
        self._files: dict[tuple[int, int], Path] = {}
        for file in sorted(path.rglob("*.png")):
            fold, _, episode = file.relative_to(path).with_suffix("").as_posix().partition("/")
            if not (fold.isdecimal() and episode.isdecimal()):
                raise RecordError(f"{file}: expected masks named <fold>/<episode>.png, found another. Take it out.")
            self._files[int(fold), int(episode)] = file

    def episodes(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for fold, episode in self._files:
            found.setdefault(fold, set()).add(episode)
        return found

    def encoded(self, fold: int, episode: int) -> bytes:
        return read_file(self._files[fold, episode], "a mask")

    def close(self) -> None:
        pass

    def digest(self) -> str:
        lines = (f"{file.relative_to(self.path).as_posix()} {sha256_file(file)}\n" for file in self._files.values())
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_submission(path: Path) -> Submission:
    """Masks at `path`, a folder or an HDF5 file. Raises `RecordError` for what names no bank, or is neither."""
    return _Folder(path) if path.is_dir() else _File(path)


def labels_of(encoded: bytes, where: str) -> NDArray[np.uint8]:
    """H x W of a mask file: grey, palette, 1 bit, or colours that are all grey. Raises `DataError` for others."""
    picture = open_mask(encoded, where)
    if picture.values.ndim == 3 or picture.jpeg or picture.values.dtype != np.uint8:
        found = "a JPEG" if picture.jpeg else "colours" if picture.values.ndim == 3 else "16 bits"
        raise DataError(
            f"{where}: expected a PNG of labels (0 background, n the n-th way), 8 bits and without colours, found "
            f"{found}. Save it as grey PNG."
        )
    black = picture.palette is not None and not picture.palette.any()
    return picture.values if picture.palette is None or black else _of_palette(picture.values, picture.levels())


def _of_palette(index: NDArray[np.uint8], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A palette's index is the label, unless its colours are black and white and say otherwise."""
    return levels if _is_black_and_white(levels) else index


def _is_black_and_white(values: NDArray[np.uint8]) -> bool:
    return bool(((values == 0) | (values == 255)).all())


def _named_bank(folder: Path) -> str:
    path = folder / MANIFEST
    if not path.is_file():
        raise RecordError(
            f"{folder}: expected {MANIFEST} beside the masks, which names the bank they were made for, found none. "
            f'Copy that of `fssbench export`, or write {{"bank": "<fingerprint>"}} (`fssbench inspect BANK` shows it).'
        )
    try:
        return str(json.loads(read_text(path, "a manifest"))["bank"])
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise RecordError(
            f"{path}: expected JSON with the bank's fingerprint as `bank`, found none ({error})."
        ) from error
