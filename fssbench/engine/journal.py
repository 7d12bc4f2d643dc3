"""What a run has done so far, on disk: an append-only journal, synced by the batch, and a lock.

A line is `<crc32> <episode row as CSV>`. The first line holds the run's identity as JSON: a journal is only continued
by a run that would write exactly the same rows. A last line that was torn by a kill is dropped and done again.
"""

from __future__ import annotations

import contextlib
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
    """One process at a time on a record. A lock whose process is dead is taken over.

    Raises `RecordError` with pid and host of the process that holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._take_over_or_refuse()
                continue
            except OSError as error:
                raise RecordError(
                    f"{self._path.parent}: expected a folder that can be written, found {error.strerror}. "
                    "Choose another --out."
                ) from error
            with os.fdopen(handle, "w") as file:
                json.dump({"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}, file)
            return self
        raise RecordError(f"{self._path} is being taken by another process. Wait for it, or try again.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)

    def _take_over_or_refuse(self) -> None:
        try:
            holder: dict[str, Any] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            holder = {}
        pid, host = holder.get("pid"), holder.get("host")
        here = host == socket.gethostname()
        if here and isinstance(pid, int) and _started(pid) != holder.get("started"):
            self._path.unlink(missing_ok=True)  # its process is dead
            return
        raise RecordError(
            f"{self._path.parent} is in the hands of process {pid} on {host}. Wait until it is done; if it is dead, "
            f"delete {self._path}."
        )


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


def _started(pid: int) -> str | None:
    """When a process of this machine started, or None if it does not run. Guards against reused pids."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
