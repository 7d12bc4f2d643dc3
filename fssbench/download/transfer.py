"""One file over HTTP: goes on where it was cut off, and is kept only if size and hash are right."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fssbench import __version__
from fssbench.errors import DataError
from fssbench.files import sync_folder

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

_BLOCK = 1 << 18  # bytes
_TIMEOUT = 60.0  # s without a byte


@dataclass(frozen=True)
class Wanted:
    """What a finished file must be. None: not known."""

    size: int | None = None  # bytes
    digest: str | None = None  # "md5:..." or "sha256:..."


def quiet(done: int, total: int | None) -> None:
    """No progress bar."""


def fetch(
    url: str,
    target: Path,
    wanted: Wanted,
    progress: Progress = quiet,
    *,
    attempts: int = 5,
    pause: float = 1.0,
) -> None:
    """Download to `target`, by way of `<target>.part`, which a later call goes on from.

    A connection that breaks is taken up again after `pause` s, then twice, three times as long, and so on; it is given
    up after `attempts` times in a row that brought nothing new.
    Raises `DataError` if the server refuses, the connection stays broken, or the file is not the one wanted; a file
    of the wrong hash is removed, so that the next call starts afresh.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    farthest, left = _size(part), attempts
    while True:
        try:
            _continue(url, part, wanted, progress)
            break
        except urllib.error.HTTPError as error:
            problem: Exception = error
            if error.code < 500:
                raise DataError(_refused(url, error)) from error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        left = attempts if _size(part) > farthest else left - 1
        farthest = max(farthest, _size(part))
        if left <= 0:
            raise DataError(_broken(url, part, problem)) from problem
        time.sleep(pause * (attempts - left + 1))
    check(part, wanted, url)
    part.replace(target)
    sync_folder(target.parent)


def check(path: Path, wanted: Wanted, origin: str) -> None:
    """Raises `DataError`, and removes the file, if it has another size or hash than `wanted`."""
    size = path.stat().st_size
    problem = ""
    if wanted.size is not None and size != wanted.size:
        problem = f"expected {wanted.size} bytes, found {size}"
    elif wanted.digest is not None:
        kind, _, expected = wanted.digest.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != expected.lower():
            problem = f"expected {kind.upper()} {expected}, found {found}"
    if problem:
        path.unlink()
        raise DataError(
            f"{origin}: {problem}. This is not the published file; it was removed. Try again, or another mirror by "
            "--url."
        )


def _continue(url: str, part: Path, wanted: Wanted, progress: Progress) -> None:
    """Fetch what `part` lacks. Ends when the server has sent everything it announced."""
    have = _size(part)
    if wanted.size is not None and have >= wanted.size:
        return  # `check` judges it
    with _open(url, have) as (response, start):
        total = _total(response, start)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, start, total, progress)
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")


@contextmanager
def _open(url: str, have: int) -> Iterator[tuple[http.client.HTTPResponse, int]]:
    """The response, and the byte at which it starts: `have`, or 0 from a server that knows no ranges."""
    headers = {"User-Agent": f"fssbench/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing lies beyond what we have
            raise
        with _open(url, 0) as opened:
            yield opened
        return
    with response:
        yield response, _start(response, have)


def _start(response: http.client.HTTPResponse, have: int) -> int:
    if response.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != have:
        raise ConnectionError(f"the server sent bytes {found[1] if found else '?'} on, not {have} as asked")
    return have


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], done: int, total: int | None, progress: Progress
) -> None:
    progress(done, total)
    while block := response.read(_BLOCK):
        file.write(block)
        done += len(block)
        progress(done, total)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refused(url: str, error: urllib.error.HTTPError) -> str:
    return (
        f"{url}: expected the file, found HTTP status {error.code} ({error.reason}). Check the address, or name a "
        "mirror by --url."
    )


def _broken(url: str, part: Path, error: Exception) -> str:
    have = _size(part)
    return (
        f"{url}: the transfer broke off ({error}) after {have} bytes, which are kept. The same command goes on from "
        "there; --url names a mirror."
    )
