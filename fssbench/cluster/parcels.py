"""Files and folders that nodes do not share: sent once, kept on each node by what they hold."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fssbench.errors import RecordError
from fssbench.files import atomic_path

CHUNK = 32 << 20


def local_folder() -> Path:
    """Where a node keeps journals and copies: below its temporary folder (`TMPDIR`), a folder a user."""
    return Path(tempfile.gettempdir()) / f"fssbench-{os.getuid()}"


@dataclass(frozen=True)
class Parcel:
    """A file or folder in Ray's object store."""

    digest: str  # SHA-256 of the file, or of the folder's names and files
    name: str
    folder: bool
    chunks: tuple[Any, ...]  # Ray's references


def pack(ray: Any, path: Path) -> Parcel:
    """Put a file or folder into Ray's object store, in parts that fit small memories."""
    digest, chunks = hashlib.sha256(), []
    with _opened(path) as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
            chunks.append(ray.put(part))
    return Parcel(digest.hexdigest(), path.name, path.is_dir(), tuple(chunks))


def unpack(parcel: Parcel) -> Path:
    """The file or folder on this node; copied by the first who asks, while others wait."""
    import ray

    home = local_folder() / "parcels" / parcel.digest
    home.mkdir(parents=True, exist_ok=True)
    target = home / parcel.name
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        whole = home / "parcel.tar" if parcel.folder else target
        with atomic_path(whole) as temporary, temporary.open("wb") as file:
            for chunk in parcel.chunks:
                file.write(ray.get(chunk))
        if parcel.folder:
            with tempfile.TemporaryDirectory(dir=home) as beside:
                with tarfile.open(whole) as archive:
                    archive.extractall(beside, filter="data")
                Path(beside, parcel.name).rename(target)
            whole.unlink()
    return target


def _opened(path: Path) -> BinaryIO:
    """The bytes of a file; of a folder an archive that does not depend on times and owners."""
    if not path.is_dir():
        return path.open("rb")
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (its reader closes it)
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in _files(path):
            entry = tarfile.TarInfo(f"{path.name}/{name}")
            entry.size = (path / name).stat().st_size
            with (path / name).open("rb") as source:
                archive.addfile(entry, source)
    file.seek(0, io.SEEK_SET)
    return file


def _files(folder: Path) -> Iterator[str]:
    yield from sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def in_parts(file: BinaryIO) -> Iterator[tuple[bool, bool, bytes]]:
    """A file for `write_part`: whether a part is the first, whether it is the last, and its bytes."""
    first, part = True, file.read(CHUNK)
    while first or part:
        following = file.read(CHUNK)
        yield first, not following, part
        first, part = False, following


def write_part(folder: Path, name: str, first: bool, last: bool, data: bytes) -> None:
    """A file that comes in parts, and takes its place when it is whole."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    try:
        with beside.open("wb" if first else "ab") as file:
            file.write(data)
    except OSError as error:
        raise RecordError(
            f"{target} could not be written ({error.strerror}). Make room and run the same command again to go on."
        ) from error
    if last:
        beside.replace(target)
