"""One file over HTTP: goes on where it was cut off, and is kept only if size and hash are right.

By hand, because the archives are up to 19 GB: what fetches data sets elsewhere (pooch, torchvision, scikit-learn)
starts every transfer from the beginning.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fssbench import __version__
from fssbench.errors import DataError
from fssbench.files import sync_folder

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

_BLOCK = 1 << 18  # bytes
_TIMEOUT = 60.0  # s without a byte
_BEYOND = 416  # the HTTP status of a range behind the end


@dataclass(frozen=True)
class Wanted:
    """What a finished file must be. None: not known."""

    size: int | None = None  # bytes
    digest: str | None = None  # "md5:..." or "sha256:..."


def quiet(done: int, total: int | None) -> None:
    """No progress bar."""


def fetch(
    url: str, target: Path, wanted: Wanted, progress: Progress = quiet, *, attempts: int = 5, pause: float = 1.0
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
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise DataError(
                    f"{url}: expected the file, found HTTP status {error.code} ({error.reason}). Check the address, "
                    "or name a mirror by --url."
                ) from error
            left = attempts if _size(part) > farthest else left - 1
            farthest = max(farthest, _size(part))
            if left <= 0:
                raise DataError(
                    f"{url}: the transfer broke off ({error}) after {_size(part)} bytes, which are kept. The same "
                    "command goes on from there; --url names a mirror."
                ) from error
        time.sleep(pause * (attempts - left + 1))
    check(part, wanted, url)
    part.replace(target)
    sync_folder(target.parent)


def check(path: Path, wanted: Wanted, origin: str) -> None:
    """Raises `DataError`, and removes the file, if it has another size or hash than `wanted`."""
    problem = ""
    if wanted.size not in (None, path.stat().st_size):
        problem = f"expected {wanted.size} bytes, found {path.stat().st_size}"
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
    with _open(url, have) as response:
        done = _start(response, have)
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        with part.open("r+b" if done else "wb") as file:
            file.seek(done)
            file.truncate()
            progress(done, total)
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _open(url: str, have: int) -> http.client.HTTPResponse:
    """The answer from byte `have` on, or from the start where nothing lies beyond what we have."""
    headers = {"User-Agent": f"fssbench/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code != _BEYOND or not have:
            raise
        return _open(url, 0)
    return response


def _start(response: http.client.HTTPResponse, have: int) -> int:
    """The byte at which an answer starts: 0 from a server that knows no ranges."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != have:
        raise ConnectionError(f"the server sent bytes {found[1] if found else '?'} on, not {have} as asked")
    return have


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
