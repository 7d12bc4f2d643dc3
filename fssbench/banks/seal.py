"""The seal of a bank: the first 512 bytes of the file, plain text, that make any damage visible.

A bank is a HDF5 file with a 512-byte user block. The block names the format and its version, and gives the file's
length and the SHA-256 of everything behind the block. There is one way to write a block, so a flipped bit inside it
is seen: the block must equal the rendering of what was read from it, byte for byte. Opening a bank reads the block and
the length; `verify` alone hashes the file. The seal says that a bank is whole, not who made it.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fssbench.errors import BankError

BLOCK = 512
VERSION = 2
MAGIC = "fssbench episode bank"
_SUPERBLOCK = 3  # the version of HDF5's structures in which all of them have checksums
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PATTERN = re.compile(rf"{MAGIC}\nformat (\d+)\nlength (\d+)\nsha256 ([0-9a-f]{{64}})\n")


@dataclass(frozen=True)
class Seal:
    """What the block says."""

    version: int
    length: int  # bytes, of the whole file
    sha256: str  # of everything behind the block

    def rendered(self) -> bytes:
        """The block, 512 bytes of ASCII."""
        text = f"{MAGIC}\nformat {self.version}\nlength {self.length}\nsha256 {self.sha256}\n"
        return text.encode("ascii").ljust(BLOCK - 1) + b"\n"


def write_seal(path: Path) -> Seal:
    """Seal a finished HDF5 file that has an empty user block. Changes nothing behind the block."""
    seal = Seal(VERSION, path.stat().st_size, _body_hash(path))
    with path.open("r+b") as file:
        file.write(seal.rendered())
        file.flush()
        os.fsync(file.fileno())
    return seal


def read_seal(path: Path) -> Seal:
    """The seal of a bank whose block and length are right. Raises `BankError` saying what is wrong otherwise."""
    try:
        with path.open("rb") as file:
            block, superblock = file.read(BLOCK), file.read(9).ljust(9, b"\0")
        length = path.stat().st_size
    except FileNotFoundError as error:
        raise BankError(f"{path}: expected an episode bank, found no file. Make one by `generate-episodes`.") from error
    except OSError as error:
        raise BankError(f"{path}: expected an episode bank, found something unreadable ({error}).") from error
    if not block.startswith(MAGIC.encode("ascii")):
        raise BankError(_not_a_bank(path, block))
    found = _PATTERN.match(block.decode("ascii", "replace"))
    if found is None:
        raise BankError(_damaged(path, "its first 512 bytes are not a bank's"))
    seal = Seal(int(found[1]), int(found[2]), found[3])
    if block != seal.rendered():
        raise BankError(_damaged(path, "its first 512 bytes are not a bank's"))
    if seal.version != VERSION:
        way_out = (
            "Make it anew by the `fssbench generate-episodes` that made it, or `fssbench attach` one of today's index "
            "banks: the same options and seeds give the same episodes"
            if seal.version < VERSION
            else "Use the fssbench release that wrote it, or generate the bank again"
        )
        raise BankError(f"{path}: expected bank format {VERSION}, found format {seal.version}. {way_out}.")
    if superblock[:8] != _SIGNATURE or superblock[8] != _SUPERBLOCK:
        raise BankError(_damaged(path, "what follows its first 512 bytes is not what fssbench writes"))
    if seal.length != length:
        what = "truncated" if length < seal.length else "longer than it was written"
        raise BankError(_damaged(path, f"it is {what}: {seal.length} bytes expected, {length} found"))
    return seal


def check_body(path: Path, seal: Seal) -> None:
    """Hash the whole file. Raises `BankError` if anything behind the block is not as it was written."""
    found = _body_hash(path)
    if found != seal.sha256:
        raise BankError(_damaged(path, f"SHA-256 {seal.sha256[:12]}... expected, {found[:12]}... found"))


def _body_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, why: str) -> str:
    return f"{path}: the episode bank is damaged: {why}. Copy it again, or generate it again; the fingerprint tells."


def _not_a_bank(path: Path, block: bytes) -> str:
    if block[:8] == _SIGNATURE:
        found = "a HDF5 file that fssbench did not write (or whose first bytes are damaged)"
    elif not block:
        found = "an empty file"
    else:
        found = "a file of another kind"
    return f"{path}: expected an episode bank, found {found}. Banks are made by `fssbench generate-episodes`."
