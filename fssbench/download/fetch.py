"""`fssbench download`: fetch, check and unpack the archives of a data set, and remember what is done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fssbench.download.archives import unpack
from fssbench.download.catalogue import Archive, addressed, choose, find_source
from fssbench.download.transfer import Wanted, check, fetch
from fssbench.errors import DataError, UsageError
from fssbench.files import atomic_write_text

_KEPT = ".fssbench-downloads"  # below --to: archives on their way, and a note for each that is done


class Display(Protocol):
    """What shows the progress of one step."""

    def bytes_done(self, done: int, total: int | None) -> None:
        """Bytes of the transfer so far."""

    def files_done(self, files: int) -> None:
        """Files unpacked so far."""


Steps = Callable[[str], AbstractContextManager[Display]]


@dataclass(frozen=True)
class Fetched:
    """What became of one archive."""

    part: str
    url: str
    state: str  # "fetched" or "there already"
    files: int


def download(
    name: str,
    folder: Path,
    steps: Steps,
    *,
    parts: list[str] | None = None,
    mirror: str | None = None,
    digest: str | None = None,
    keep: bool = False,
    force: bool = False,
) -> list[Fetched]:
    """Fetch the archives of a data set that are not there yet, into `folder`.

    `mirror` is an address to use instead of the published one: of the file itself, or, ending in "/", of a folder
    that holds the files by their published names. `digest` ("sha256:...", "md5:...") is what the one archive must
    hash to, where it is not the published one. `keep` keeps the archives. `force` fetches what is noted as done.
    Raises `UsageError` and `DataError`.
    """
    archives = choose(name, parts)
    if len(archives) > 1 and (digest or (mirror and not mirror.endswith("/"))):
        raise UsageError(
            f"--url or --hash names one file, but {name} has {len(archives)}: "
            f"{', '.join(archive.part for archive in archives)}. Choose one by --parts, or let --url end in '/'."
        )
    addresses = [addressed(name, archive, mirror) for archive in archives]
    wanted = [_wanted(archive, digest) for archive in archives]
    with _alone(folder / _KEPT):
        return [
            _one(archive, address, expected, folder, find_source(name).folder, steps, keep, force)
            for archive, address, expected in zip(archives, addresses, wanted, strict=True)
        ]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: two would write one partial file. The system's lock on a folder ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DataError(f"{folder.parent}: another process is downloading into it. Wait until it is done.") from error
    try:
        yield
    finally:
        os.close(handle)


def _one(
    archive: Archive, url: str, wanted: Wanted, folder: Path, below: str, steps: Steps, keep: bool, force: bool
) -> Fetched:
    note = folder / _KEPT / f"{archive.part}.done"
    if note.exists() and not force:
        return Fetched(archive.part, url, "there already", int(note.read_text(encoding="utf-8").split()[0]))
    target = folder / _KEPT / (url.rpartition("/")[2].partition("?")[0] or archive.file_name)
    _check_room(archive, folder)
    with steps(f"fetching {target.name}") as display:
        if target.exists():
            check(target, wanted, str(target))
        else:
            fetch(url, target, wanted, display.bytes_done)
    with steps(f"unpacking {target.name}") as display:
        files = unpack(target, folder / below, display.files_done)
    if not keep:
        target.unlink()
    atomic_write_text(note, f"{files} files from {url}\n")
    return Fetched(archive.part, url, "fetched", files)


def _wanted(archive: Archive, digest: str | None) -> Wanted:
    if digest is None:
        return Wanted(archive.size, archive.digest)
    kind, _, value = digest.partition(":")
    if kind not in ("md5", "sha256") or len(value) != 2 * hashlib.new(kind).digest_size:
        raise UsageError(f"--hash: expected md5: or sha256: and the hash in hex, found {digest!r}.")
    return Wanted(None, digest)


def _check_room(archive: Archive, folder: Path) -> None:
    """The archive and its content must fit, which is photographs and hardly smaller packed."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if archive.size is not None and free < 2 * archive.size:
        raise DataError(
            f"{folder}: expected {2 * archive.size / 1e9:.1f} GB of free space for {archive.part} (the archive and its "
            f"files), found {free / 1e9:.1f} GB. Name a larger disk by --to."
        )
