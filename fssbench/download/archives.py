"""Unpacking tar and zip files that came from elsewhere.

Only plain files and folders are unpacked, at relative paths that stay in the folder, none twice. Links, devices,
absolute paths, "..", and archives that would not fit on the disk are refused, and then nothing is left behind.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fssbench.errors import DataError

Progress = Callable[[int], None]  # files so far

_BLOCK = 1 << 20  # bytes
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Entry:
    """A plain file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, progress: Progress = lambda files: None) -> int:
    """Unpack into `folder` and say how many files it were. Raises `DataError`.

    Everything goes to a folder beside first, and is moved into place when all of it was good. Files that are in place
    already with the same size stay as they are; one of another size is refused.
    """
    waiting = folder / f".unpacking-{archive.name}"
    shutil.rmtree(waiting, ignore_errors=True)  # of a call that was killed
    waiting.mkdir(parents=True)
    try:
        count = _unpack(archive, waiting, progress)
        _move(waiting, folder)
    except _DAMAGED as error:
        raise DataError(f"{archive}: the archive is damaged ({error}). Download it again.") from error
    except OSError as error:
        raise DataError(f"{archive}: could not be unpacked into {folder} ({error}).") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    return count


def _unpack(archive: Path, folder: Path, progress: Progress) -> int:
    free = shutil.disk_usage(folder).free
    count = 0
    for entry in _entries(archive):
        free -= entry.size
        if free < 0:
            raise DataError(f"{archive}: its files do not fit on the disk of {folder}. Make room, then try again.")
        target = folder / _inside(entry.name, archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise DataError(_refusal(archive, entry.name, "a second entry of that name"))
        with entry.open() as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        if target.stat().st_size != entry.size:
            raise DataError(
                _refusal(archive, entry.name, f"{target.stat().st_size} bytes where {entry.size} are named")
            )
        count += 1
        progress(count)
    return count


def _entries(archive: Path) -> Iterator[Entry]:
    if zipfile.is_zipfile(archive):
        return _zip_entries(archive)
    if tarfile.is_tarfile(archive):
        return _tar_entries(archive)
    raise DataError(f"{archive}: expected a tar or zip archive, found something else. Download it again.")


def _tar_entries(archive: Path) -> Iterator[Entry]:
    with closing(tarfile.open(archive, "r|*")) as tar:  # read once, front to back
        for member in tar:
            if member.isdir():
                continue
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise DataError(_refusal(archive, member.name, "a link, device or other special file"))
            found = source
            yield Entry(member.name, member.size, lambda found=found: found)  # type: ignore[misc]


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
                raise DataError(_refusal(archive, info.filename, "a link, device or other special file"))
            yield Entry(info.filename, info.file_size, lambda info=info: packed.open(info))  # type: ignore[misc]


def _inside(name: str, archive: Path) -> Path:
    """An entry's path below the folder. Raises `DataError` if it leads elsewhere."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise DataError(_refusal(archive, name, "a path that leads out of the folder"))
    return Path(*path.parts)


def _refusal(archive: Path, name: str, found: str) -> str:
    return (
        f"{archive}: entry {name!r}: expected plain files inside the folder, found {found}. The archive is not the "
        "published one; nothing was unpacked."
    )


def _move(waiting: Path, folder: Path) -> None:
    files = [path for path in sorted(waiting.rglob("*")) if path.is_file()]
    targets = [folder / path.relative_to(waiting) for path in files]
    for path, target in zip(files, targets, strict=True):
        if target.exists() and (not target.is_file() or target.stat().st_size != path.stat().st_size):
            raise DataError(
                f"{target} exists and differs from what the archive holds; nothing is overwritten. Move it away, or "
                "unpack into another folder by --to."
            )
    for path, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            path.rename(target)
