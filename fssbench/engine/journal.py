"""What a run has done so far, on disk: an append-only journal of steps, and a lock.

A line is `<crc32> <JSON>`. The first line holds the run's identity: a journal is only continued by a run that would
write exactly the same rows. Every other line is a step, its counts and its predictions, which are on disk together or
not at all. A last line that was torn by a kill is dropped and done again.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Rows by (fold, episode, way), and predictions as PNG files by (fold, episode), kept across kills.

    Opening reads what is there. Raises `RecordError` if the journal belongs to another run, holds two values for one
    row, or is damaged before its last line.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: dict[Key, tuple[int, ...]] = {}
        self.told: Callable[[bytes], None] = lambda line: None  # of every step that is written from now on
        self._masks: dict[tuple[int, int], int] = {}  # (fold, episode) -> where its step begins in the file
        header = json.loads(json.dumps(identity))
        try:
            self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise RecordError(f"{path} cannot be written ({error.strerror}). Choose another --out.") from error
        try:
            good = self._read(header)
        except RecordError:
            self._file.close()
            raise
        self._file.seek(good)
        self._file.truncate()
        if not good:
            self._write(header)
            sync_folder(path.parent)

    @property
    def resumed(self) -> bool:
        """Whether anything is done."""
        return bool(self.rows)

    def append(self, fold: int, rows: Iterable[tuple[int, int, Row]], masks: Mapping[int, bytes]) -> None:
        """Add a step, (episode, way, counts) and PNG files by episode, and sync it to disk."""
        step = {
            "fold": fold,
            "rows": [[episode, way, *map(int, counts)] for episode, way, counts in rows],
            "masks": {episode: base64.b64encode(data).decode() for episode, data in masks.items()},
        }
        place = self._file.tell()
        line = self._write(step)
        self._take(step, place)
        self.told(line)

    def merge(self, line: bytes) -> int:
        """Add the step of another journal of the same run; returns how many of its episodes were not here.

        Raises `RecordError` for a line that did not arrive whole.
        """
        step = _unsealed(line)
        if step is None:
            raise RecordError(f"{self.path}: a step came damaged from another journal. Run the same command again.")
        fold = step["fold"]
        rows = [row for row in step["rows"] if (fold, *row[:2]) not in self.rows]
        new = {episode for episode, *_ in rows}
        if rows:
            masks = {int(e): base64.b64decode(data) for e, data in step["masks"].items() if int(e) in new}
            self.append(fold, [(episode, way, counts) for episode, way, *counts in rows], masks)
        return len(new)

    def steps(self) -> list[bytes]:
        """The lines of all steps so far, for `merge`."""
        end = self._file.tell()
        self._file.seek(0)
        lines = self._file.readlines()[1:]
        self._file.seek(end)
        return lines

    def masks(self) -> Iterator[tuple[int, int, bytes]]:
        """(fold, episode, PNG file) of every prediction, by fold and episode."""
        end = self._file.tell()
        for (fold, episode), place in sorted(self._masks.items()):
            self._file.seek(place)
            step = _unsealed(self._file.readline())
            if step is None:
                raise RecordError(f"{self.path} was changed by another program. Delete the folder to begin again.")
            yield fold, episode, base64.b64decode(step["masks"][str(episode)])
        self._file.seek(end)

    def close(self) -> None:
        """Close the file; the steps stay on disk."""
        with contextlib.suppress(OSError):  # it flushes again what a full disk did not take, which was told then
            self._file.close()

    def delete(self) -> None:
        """The record is finished: the journal has done its work."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, value: Mapping[str, Any]) -> bytes:
        line = _sealed(value)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordError(
                f"{self.path} could not be written ({error.strerror}). What was written before is safe; make room and "
                "run the same command again to go on."
            ) from error
        return line

    def _read(self, identity: dict[str, Any]) -> int:
        """Read the steps; returns the number of bytes that are whole."""
        good = 0
        for number, line in enumerate(self._file, 1):
            found = _unsealed(line)
            if found is None:
                more = sum(1 for _ in self._file)
                if not more:
                    break  # torn by a kill
                raise RecordError(
                    f"{self.path}: line {number} of {number + more} is damaged. Delete the folder to begin again."
                )
            if number == 1:
                self._check_identity(found, identity)
            else:
                self._take(found, good)
            good += len(line)
        return good

    def _take(self, step: dict[str, Any], place: int) -> None:
        fold = step["fold"]
        for episode, way, *counts in step["rows"]:
            if self.rows.setdefault((fold, episode, way), tuple(counts)) != tuple(counts):
                raise RecordError(
                    f"{self.path} gives fold {fold}, episode {episode}, way {way} another value than an earlier line. "
                    "Two runs wrote here; delete the folder to begin again."
                )
        self._masks.update({(fold, int(episode)): place for episode in step["masks"]})

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
            return bool(_unsealed(file.readline()) == json.loads(json.dumps(identity)))
    except OSError:
        return False


def _sealed(value: Mapping[str, Any]) -> bytes:
    data = json.dumps(value, sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if it is not whole."""
    seal, _, rest = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or seal != b"%08x" % zlib.crc32(rest):
        return None
    found: dict[str, Any] = json.loads(rest)
    return found
