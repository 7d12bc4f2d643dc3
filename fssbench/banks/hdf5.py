"""Writing HDF5: columns and byte strings, in a file that is whole or absent, whatever the disk and signals do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fssbench.banks.sink import Sink, held_signals
from fssbench.files import atomic_path

_CHUNK = 1 << 16  # bytes; an image is one or two chunks
_BUFFER = 1 << 22  # bytes gathered before they go to the file: whole chunks, so that none is written twice


@contextlib.contextmanager
def new_hdf5(
    path: Path, *, replace: bool = True, userblock: int = 0, finish: Callable[[Path], object] | None = None
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A file to write to, atomically, and what to call between writes: it raises once the file cannot be written, or
    leaves the block once the process shall end. `finish` is given the closed file before it takes its place.

    Raises `OSError` for what went wrong, `FileExistsError` if not `replace` and something took the place meanwhile.
    """
    with held_signals() as stop, atomic_path(path, replace=replace) as temporary:
        with Sink(temporary) as sink:

            def check() -> None:
                sink.check()
                stop()

            with h5py.File(sink, "w", userblock_size=userblock, libver="v110") as file:
                yield file, check
            sink.check()
        if finish is not None:
            finish(temporary)


class Blobs:
    """Byte strings, one after the other in `<group>/bytes`; string i is bytes[offset[i]:offset[i + 1]]."""

    def __init__(self, file: h5py.File, group: str) -> None:
        self._file, self._group = file, group
        self._bytes = file.create_dataset(
            f"{group}/bytes", (0,), maxshape=(None,), dtype=np.uint8, chunks=(_CHUNK,), fletcher32=True
        )
        self._offsets = [0]
        self._buffer = np.empty(_BUFFER, dtype=np.uint8)
        self._filled = 0

    def append(self, blob: bytes) -> None:
        """Add one byte string."""
        self._offsets.append(self._offsets[-1] + len(blob))
        left = np.frombuffer(blob, dtype=np.uint8)
        while len(left):
            count = min(len(left), _BUFFER - self._filled)
            self._buffer[self._filled : self._filled + count] = left[:count]
            self._filled += count
            left = left[count:]
            if self._filled == _BUFFER:
                self._flush()

    def close(self) -> None:
        """Write what is left, and the offsets."""
        self._flush()
        put(self._file, f"{self._group}/offset", np.array(self._offsets, dtype=np.int64))

    def _flush(self) -> None:
        start = self._bytes.shape[0]
        self._bytes.resize(start + self._filled, axis=0)
        self._bytes[start:] = self._buffer[: self._filled]
        self._filled = 0


def put(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    """A chunked, checksummed array, in chunks of about 64 KiB."""
    row = max(1, int(values.nbytes / max(1, len(values))))
    chunk = (max(1, min(len(values), _CHUNK // row)), *values.shape[1:])
    file.create_dataset(
        name,
        data=values,
        chunks=chunk,
        maxshape=(None, *values.shape[1:]),
        fletcher32=True,
        shuffle=True,
        compression="gzip",
    )


def put_texts(group: h5py.Group, texts: Mapping[str, str]) -> None:
    """Attributes as texts of fixed length, which need no heap of HDF5's."""
    for name, text in texts.items():
        group.attrs[name] = np.bytes_(text.encode("utf-8") or b"\0")


def text_column(texts: Sequence[str]) -> NDArray[Any]:
    """Texts as UTF-8 of one length, that of the longest."""
    encoded = [text.encode("utf-8") for text in texts]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
