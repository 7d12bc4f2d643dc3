"""Checks of a HDF5 file from a stranger, object by object, before anything in it is read.

HDF5 follows links out of the file, fetches pixels from other files, and believes whatever sizes and filters it finds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import h5py
from h5py import h5d, h5t, h5z

MEMORY = 1 << 28  # bytes that all tables of a file have together, a hundred times what COCO's have
CHUNK = 1 << 20  # bytes of the largest chunk
_INFLATION = 1100  # more than DEFLATE can make of its input
_ATTRIBUTE = 60_000  # bytes
_MEMBERS = 1 << 16  # of a group


@dataclass(frozen=True)
class Kind:
    """A column: its values, and as "n x ways" its shape in words that are looked up; `text`: bytes of one at most."""

    shape: tuple[str, ...]
    type: str = "int64"  # int64, uint8, text, or blobs: uint8 without compression
    text: int = 0


class Structure:
    """Looks at one object of a file after the other, and adds up what reading all tables would take.

    Everything raises `ValueError`, saying where, what was expected and what was found.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file, self._memory = file, 0
        self._length = file.id.get_filesize()

    def members(self, group: str, needed: Collection[str], allowed: Collection[str] | None) -> set[str]:
        """Names of what is in a group, all of it inside this file. `allowed` None: any name beside those `needed`."""
        found = self._file[group]
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{group}: expected a group, found {type(found).__name__.lower()}")
        if len(found) > _MEMBERS:
            raise ValueError(f"{group}: expected at most {_MEMBERS} members, found {len(found)}")
        names = set(found)
        if not set(needed) <= names or (allowed is not None and not names <= {*needed, *allowed}):
            expected = ", ".join([*sorted(needed), *(f"[{name}]" for name in sorted(allowed or ()))])
            raise ValueError(
                f"{group}: expected {expected}, found {', '.join(sorted(map(repr, names))[:20]) or 'none'}"
            )
        for name in names:
            link = found.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{group}/{name}: expected data of this file, found a link ({type(link).__name__})")
        return names

    def numbers(self, group: str, names: Collection[str]) -> Iterator[str]:
        """Names that are whole numbers, ascending; at least one."""
        wrong = [name for name in names if not name.isdecimal() or name != str(int(name)) or len(name) > 6]
        if wrong or not names:
            raise ValueError(f"{group}: expected whole numbers as names, found {wrong[0] if wrong else 'none'!r}")
        return iter(sorted(names, key=int))

    def attribute(self, owner: str, name: str) -> None:
        """A text of fixed length."""
        attributes = self._file[owner].attrs
        if name not in attributes:
            raise ValueError(f"{owner}: expected the attribute {name}, found none")
        found = attributes.get_id(name)
        kind = found.get_type()
        fixed = isinstance(kind, h5t.TypeStringID) and not kind.is_variable_str()
        if found.shape != () or not fixed or kind.get_size() > _ATTRIBUTE:
            raise ValueError(f"{owner}: expected the attribute {name} as a text of fixed length, found another type")

    def columns(
        self,
        group: str,
        kinds: Mapping[str, Kind],
        sizes: dict[str, int],
        blobs: str = "",
        others: Collection[str] = (),
    ) -> bool:
        """A group's columns, of lengths that agree in `sizes`, which grows. Whether there are `blobs`, one a row."""
        stored = {"offset", "bytes"} if blobs else set()
        names = self.members(group, kinds, {*stored, *others})
        for name, kind in kinds.items():
            self._column(f"{group}/{name}", kind, sizes)
        if not names & stored:
            return False
        if not stored <= names:
            raise ValueError(f"{group}: expected offset and bytes, found one of them")
        rows = {f"{blobs} + 1": sizes[blobs] + 1}
        self._column(f"{group}/offset", Kind((f"{blobs} + 1",)), rows)
        self._column(f"{group}/bytes", Kind(("bytes",), "blobs"), {})
        return True

    def _column(self, name: str, kind: Kind, sizes: dict[str, int]) -> None:
        found = self._file[name]
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"{name}: expected an array, found {type(found).__name__.lower()}")
        size = _item_size(name, found.id.get_type(), kind)
        shape = found.id.get_space().get_simple_extent_dims()
        words = kind.shape
        if len(shape) != len(words) or any(sizes.setdefault(w, n) != n for w, n in zip(words, shape, strict=True)):
            expected = " x ".join(str(sizes.get(word, word)) for word in words)
            raise ValueError(f"{name}: expected the shape {expected}, found {' x '.join(map(str, shape))}")
        chunk = _check_storage(name, found.id.get_create_plist(), kind)
        if math.prod(chunk) * size > CHUNK:
            raise ValueError(f"{name}: expected chunks of at most {CHUNK} bytes, found {math.prod(chunk) * size}")
        self._check_size(name, found, kind, math.prod(shape) * size)

    def _check_size(self, name: str, found: h5py.Dataset, kind: Kind, size: int) -> None:
        """No size is believed that the file is too short for."""
        if kind.type == "blobs":
            if size > self._length:
                raise ValueError(f"{name}: {size} bytes in a file of {self._length}")
            return
        self._memory += size
        if self._memory > MEMORY:
            raise ValueError(f"{name}: expected tables of at most {MEMORY} bytes together, found more")
        stored = found.id.get_storage_size()
        if size > _INFLATION * stored:
            raise ValueError(f"{name}: {size} bytes, of which {stored} are in the file")


def _item_size(name: str, found: h5t.TypeID, kind: Kind) -> int:
    """Bytes of one value of a column of the right type."""
    if kind.type == "text":
        if isinstance(found, h5t.TypeStringID) and not found.is_variable_str() and found.get_size() <= kind.text:
            return int(found.get_size())
        raise ValueError(f"{name}: expected texts of a fixed length up to {kind.text} bytes, found another type")
    expected = h5t.STD_I64LE if kind.type == "int64" else h5t.STD_U8LE
    if not isinstance(found, h5t.TypeIntegerID) or not found.equal(expected):
        raise ValueError(f"{name}: expected {'int64' if kind.type == 'int64' else 'uint8'}, found another type")
    return int(found.get_size())


def _check_storage(name: str, plist: h5py.h5p.PropDCID, kind: Kind) -> tuple[int, ...]:
    """Chunked in this file, with checksums and none but known filters. Gives the shape of a chunk."""
    if plist.get_layout() != h5d.CHUNKED or plist.get_external_count():
        raise ValueError(f"{name}: expected chunks in this file, found another storage (external, virtual or in one)")
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    packing = set() if kind.type == "blobs" else {h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE}
    if filters - packing != {h5z.FILTER_FLETCHER32}:
        raise ValueError(f"{name}: expected the checksum fletcher32 and no foreign filter, found {sorted(filters)}")
    chunk: tuple[int, ...] = plist.get_chunk()
    return chunk
