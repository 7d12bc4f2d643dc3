"""What a run has done so far, on disk: an append-only journal, synced by the batch, and a lock.

A line is `<crc32> <episode row as CSV>`. The first line holds the run's identity as JSON: a journal is only continued
by a run that would write exactly the same rows. A last line that was torn by a kill is dropped and done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fssbench.errors import RecordError
from fssbench.files import sync_folder

Key = tuple[int, int, int]  # fold, episode, way
Row = Sequence[int]  # the six counts


class Lock:
    """One process at a time on a record: a lock of the operating system on a file, which ends with its process.

    Raises `RecordError` with pid and host of the process that holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def __enter__(self) -> Lock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_mine():
                    break
                os.close(self._handle)  # its last holder deleted it between the two calls: lock the new one
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BlockingIOError:
            holder = os.pread(self._handle, 400, 0).decode(errors="replace") or "another process"
            os.close(self._handle)
            raise RecordError(f"{self._path.parent} is in the hands of {holder}. Wait until it is done.") from None
        except OSError as error:
            raise RecordError(
                f"{self._path.parent}: expected a folder that can be written and locked, found {error.strerror}. "
                "Choose another --out."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)  # while it is held, so that nobody holds a file that has no name
        os.close(self._handle)

    def _is_mine(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        return False


class Journal:
    """Rows by (fold, episode, way), kept across kills.

    Opening reads what is there. Raises `RecordError` if the journal belongs to another run, holds two values for one
    row, or is damaged before its last line.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: dict[Key, tuple[int, ...]] = {}
        self.resumed = False
        header = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        good = self._read(json.loads(header)) if path.exists() else 0
        try:
            self._file: BinaryIO = path.open("r+b" if good else "wb")
        except OSError as error:
            raise RecordError(f"{path} cannot be written ({error.strerror}). Choose another --out.") from error
        self._file.seek(good)
        self._file.truncate()
        if not good:
            self._write([header])
            sync_folder(path.parent)

    def append(self, rows: Iterable[tuple[Key, Row]]) -> None:
        """Add rows and sync them to disk together."""
        new = [(key, tuple(int(v) for v in row)) for key, row in rows]
        self._write([",".join(map(str, (*key, *row))) for key, row in new])
        self.rows.update(new)

    def close(self) -> None:
        """Close the file; the rows stay on disk."""
        with contextlib.suppress(OSError):  # it flushes again what a full disk did not take, which was told then
            self._file.close()

    def delete(self) -> None:
        """The record is finished: the journal has done its work."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, lines: Iterable[str]) -> None:
        data = b"".join(_sealed(line) for line in lines)
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordError(
                f"{self.path} could not be written ({error.strerror}). What was written before is safe; make room and "
                "run the same command again to go on."
            ) from error

    def _read(self, identity: dict[str, Any]) -> int:
        """Read the rows; returns the number of bytes that are whole."""
        data = self.path.read_bytes()
        good = 0
        lines = data.splitlines(keepends=True)
        for number, line in enumerate(lines):
            text = _unsealed(line)
            if text is None:
                if number == len(lines) - 1:
                    break  # torn by a kill
                raise RecordError(
                    f"{self.path}: line {number + 1} of {len(lines)} is damaged. Delete the folder to begin again."
                )
            if number == 0:
                self._check_identity(json.loads(text), identity)
            else:
                self._take(text, number)
            good += len(line)
        self.resumed = bool(self.rows)
        return good

    def _take(self, text: str, number: int) -> None:
        fold, episode, way, *row = (int(word) for word in text.split(","))
        key, value = (fold, episode, way), tuple(row)
        if self.rows.setdefault(key, value) != value:
            raise RecordError(
                f"{self.path}: line {number + 1} gives fold {fold}, episode {episode}, way {way} another value than "
                "an earlier line. Two runs wrote here; delete the folder to begin again."
            )

    def _check_identity(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        differing = [k for k in sorted({*found, *expected}) if found.get(k) != expected.get(k)]
        if differing:
            changes = "; ".join(f"{k}: then {found.get(k)!r}, now {expected.get(k)!r}" for k in differing[:5])
            raise RecordError(
                f"{self.path.parent} holds an unfinished run that this one cannot continue: {changes}. Finish it as it "
                "was begun, or pass --force to begin again."
            )


def same_run(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a journal is one that `identity` may continue, and whole enough for that."""
    try:
        with path.open("rb") as file:
            text = _unsealed(file.readline())
    except OSError:
        return False
    return text is not None and bool(json.loads(text) == json.loads(json.dumps(identity)))


def _sealed(line: str) -> bytes:
    data = line.encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _unsealed(line: bytes) -> str | None:
    seal, _, rest = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or seal != b"%08x" % zlib.crc32(rest):
        return None
    return rest.decode()
