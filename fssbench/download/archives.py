"""Unpacking tar and zip files that came from elsewhere.

Only plain files and folders are unpacked, at relative paths that stay in the folder, none twice. Links, devices,
absolute paths, "..", and archives that would not fit on the disk are refused, and then nothing is left behind. The
libraries' own guards (tarfile's `data` filter, zipfile's extraction) are the second line: they mend some names in
silence, where a published archive has nothing to mend.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fssbench.errors import DataError

Progress = Callable[[int], None]  # files so far

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class _Entry(NamedTuple):
    name: str
    size: int  # bytes
    plain: bool  # no link, device or other special file
    extract: Callable[[Path], object]


def unpack(archive: Path, folder: Path, progress: Progress = lambda files: None) -> int:
    """Unpack into `folder` and say how many files it were. Raises `DataError`.

    Everything goes to a folder beside first, and is moved into place when all of it was good. Files that are in place
    already with the same size stay as they are; one of another size is refused.
    """
    waiting = folder / f".unpacking-{archive.name}"
    shutil.rmtree(waiting, ignore_errors=True)  # of a call that was killed
    waiting.mkdir(parents=True)
    try:
        with _opened(archive) as packed:
            entries = _entries(packed)
            _check(entries, archive, shutil.disk_usage(folder).free)
            for count, entry in enumerate(entries, start=1):
                entry.extract(waiting)
                progress(count)
        _move(waiting, folder)
    except _DAMAGED as error:
        raise DataError(f"{archive}: the archive is damaged ({error}). Download it again.") from error
    except OSError as error:
        raise DataError(f"{archive}: could not be unpacked into {folder} ({error}).") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    return len(entries)


def _opened(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    if tarfile.is_tarfile(archive):
        return tarfile.open(archive)
    raise DataError(f"{archive}: expected a tar or zip archive, found something else. Download it again.")


def _entries(packed: tarfile.TarFile | zipfile.ZipFile) -> list[_Entry]:
    """Everything but folders."""
    if isinstance(packed, zipfile.ZipFile):
        infos = [info for info in packed.infolist() if not info.is_dir()]
        return [
            _Entry(info.filename, info.file_size, _is_plain(info.external_attr >> 16), partial(packed.extract, info))
            for info in infos
        ]
    members = [member for member in packed if not member.isdir()]
    return [_Entry(m.name, m.size, m.isreg(), partial(packed.extract, m, filter="data")) for m in members]


def _is_plain(mode: int) -> bool:
    return not stat.S_IFMT(mode) or stat.S_ISREG(mode)


def _check(entries: list[_Entry], archive: Path, free: int) -> None:
    """Raises `DataError` for the first entry that is not as a published archive's are, or if all do not fit."""
    seen: set[PurePosixPath] = set()
    for name, size, plain, _ in entries:
        path, found = PurePosixPath(name), ""
        if not path.parts or path.is_absolute() or ".." in path.parts or {"\\", ":", "\0"} & set(name):
            found = "a path that leads out of the folder"
        elif not plain:
            found = "a link, device or other special file"
        elif path in seen:
            found = "a second entry of that name"
        if found:
            raise DataError(
                f"{archive}: entry {name!r}: expected plain files inside the folder, found {found}. The archive is not "
                "the published one; nothing was unpacked."
            )
        seen.add(path)
        free -= size
    if free < 0:
        raise DataError(f"{archive}: its files do not fit on the disk by {-free} bytes. Make room, then try again.")


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
