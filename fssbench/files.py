"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # what file systems say that know no hard links
_ABANDONED = 60  # s without a write, after which a temporary file that nobody holds is a dead process's


@contextlib.contextmanager
def atomic_path(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place, synced to disk, when the block ends well.

    After an exception, or a kill, `target` is what it was before. Raises `FileExistsError` at the end of the block if
    not `replace` and something took the place meanwhile, be it in that very moment.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
        os.fsync(handle)
        temporary.chmod(0o666 & ~_umask())
        if replace:
            temporary.replace(target)
        else:
            _take_free_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)
    sync_folder(target.parent)


def remove_abandoned(target: Path) -> bool:
    """Remove the temporary files of `target` that killed processes left. True if a living one is writing it now."""
    written = False
    for temporary in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError), temporary.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                written = True
            else:
                if time.time() - temporary.stat().st_mtime > _ABANDONED:
                    temporary.unlink()
    return written


def _take_free_place(temporary: Path, target: Path) -> None:
    """Give `temporary` its name unless anything has it. Raises `FileExistsError` otherwise."""
    try:
        target.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        temporary.replace(target)


def atomic_write_text(target: Path, text: str) -> None:
    """Write a text file so that it is whole or absent."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. Does nothing where folders cannot be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
