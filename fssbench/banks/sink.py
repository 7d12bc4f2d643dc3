"""A file that HDF5 can write to without crashing when the disk is full.

The HDF5 library may end the whole process (measured: a segmentation fault) when a write fails while it closes a file.
So it writes through this object, which keeps the first failure to itself and lets HDF5 finish; `check` then raises it.
A signal must not raise in the midst of such a write either: `held_signals` puts it off.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """Leaves a block of `held_signals`."""


@contextlib.contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Signals that end a process wait until what is given is called; that leaves the block, and then they come.

    A second signal comes at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    came: list[int] = []

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        give_back()

    def check() -> None:
        if came:
            raise _Stopped

    for number in before:
        signal.signal(number, hold)
    try:
        with contextlib.suppress(_Stopped):
            yield check
    finally:
        give_back()
    if came:
        signal.raise_signal(came[0])


class Sink(io.RawIOBase):
    """A binary file, new and empty. After a failure it swallows everything and reads as zeros."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._place = 0
        self._size = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first `OSError` that a write had, if one had."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of `data`, or remember why that failed."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self._error is None:
            try:
                done += os.pwrite(self._handle, view[done:], self._place + done)
            except OSError as error:
                self._error = error
        self._place += len(view)
        self._size = max(self._size, self._place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with zeros where nothing could be written."""
        view = memoryview(buffer).cast("B")
        found = b"" if self._error is not None else os.pread(self._handle, len(view), self._place)
        view[:] = found.ljust(len(view), b"\0")
        self._place += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file; the end is where it would be had every write gone well."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or remember why that failed."""
        self._size = self._place if size is None else size
        if self._error is None:
            try:
                os.ftruncate(self._handle, self._size)
            except OSError as error:
                self._error = error
        return self._size

    def readable(self) -> bool:
        """It can be read."""
        return True

    def writable(self) -> bool:
        """It can be written."""
        return True

    def seekable(self) -> bool:
        """It has a place."""
        return True

    def close(self) -> None:
        """Close the file. Call `check` as well."""
        if not self.closed:
            os.close(self._handle)
        super().close()
