"""Ways to spoil a file: bytes, HDF5's objects, JSON's values, a table's cells. All of it follows from the generator."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

HUGE = (1 << 31, 1 << 40, 1 << 62)
NUMBERS = (-1, 0, 1, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 53, (1 << 63) - 1, -(1 << 63))
TEXTS = (
    "", " ", "a b", "a\nb", "a\0b", "../escaped", "/etc/passwd", "a/../../b", "C:\\x", "a|b", "x" * 300,
    "\u2028", "ä", "\ud800", "<script>alert(1)</script>", "{", "nan", "1e999", "0" * 64, "`|`", "%s%n", "-1", "é" * 200,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, [], {}, [[]], {"a": {}}, 0.5, -0.0, 1e30, 1e308, float("nan"), float("inf"), 10**30, *NUMBERS, *TEXTS,
)  # fmt: skip


def spoil_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped bits, a part cut off, taken out, blanked, doubled or put in."""
    start, size = rng.randrange(len(content)), rng.choice((1, 4, 64, 1000))
    match rng.randrange(7):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + content[start + size :]
        case 2:
            return content[:start] + bytes(size) + content[start + size :]
        case 3:
            return content[:start] + content[start : start + size] + content[start:]
        case 4:
            return (
                content[:start]
                + rng.choice((b"\0", b"\xff\xfe", b"\n", b"\xef\xbb\xbf", b"[" * 5000))
                + content[start:]
            )
        case _:
            flipped = bytearray(content)
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                place = rng.randrange(len(content) * 8)
                flipped[place // 8] ^= 1 << place % 8
            return bytes(flipped)


def spoil_json(rng: random.Random, value: Any, extra: Sequence[Any] = ()) -> str:
    """One to three values anywhere in a tree replaced, removed, doubled or renamed. Changes `value`."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        if not places:
            break
        deep = rng.choice(places)
        holder, key = rng.choice(places) if rng.random() < 0.5 else deep
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(TEXTS)] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case _:
                holder[key] = rng.choice((*VALUES, *extra))
    text = json.dumps(value)
    return text if rng.random() < 0.97 else text.replace("0", "9" * 5000, 1)


def _holders(value: Any) -> list[Any]:
    """Lists and dictionaries of a tree, itself included."""
    if not isinstance(value, list | dict):
        return []
    return [
        value,
        *(found for part in (value.values() if isinstance(value, dict) else value) for found in _holders(part)),
    ]


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def spoil_table(rng: random.Random, text: str) -> str:
    """Cells, rows and columns of a table replaced, removed, doubled or exchanged."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 5))):
        y = rng.randrange(len(rows)) if rng.random() < 0.8 else 0
        if not rows[y]:
            continue
        x, other = rng.randrange(len(rows[y])), rng.randrange(len(rows))
        match rng.randrange(7):
            case 0:
                rows[y] = []
            case 1:
                rows.insert(y, list(rows[other]))
            case 2:
                rows[y], rows[other] = rows[other], rows[y]
            case 3:
                for row in rows:
                    del row[x : x + 1]
            case 4:
                del rows[y][x]
            case _:
                rows[y][x] = str(rng.choice((*VALUES, '"', '"a', "1.5", " 7", "1e3", "9" * 30)))
    return "\n".join(",".join(row) for row in rows) + rng.choice(("\n", "", "\r\n", "\0"))


# HDF5


def spoil_hdf5(rng: random.Random, path: Path, secret: Path) -> str:
    """Change one to three objects of a file as a crafty stranger would. Gives what was done."""
    done = []
    with h5py.File(path, "r+", libver="v110") as file:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            found: list[Any] = []
            file.visititems(lambda _, item, found=found: found.append(item))
            groups = [file, *(item for item in found if isinstance(item, h5py.Group))]
            arrays = [item for item in found if isinstance(item, h5py.Dataset)]
            arrays = [item for item in arrays if (item.size or 0) < 1 << 20]  # what a change before left huge, stays
            change = rng.choice(_CHANGES)
            target = rng.choice(arrays if arrays and rng.random() < 0.8 else groups[1:] or arrays or groups)
            try:
                change(rng, file, target, secret)
                done.append(f"{change.__name__[1:]} {target.name}")
            except (ValueError, TypeError, KeyError, OSError, RuntimeError, OverflowError, AttributeError, IndexError):
                done.append(f"no {change.__name__[1:]}")  # what HDF5 does not even write
    return ", ".join(done)


def _external_link(rng: random.Random, file: h5py.File, target: Any, secret: Path) -> None:
    name = target.name
    del file[name]
    file[name] = h5py.ExternalLink(rng.choice((str(secret), "../outside/secret.h5", "/etc/passwd")), "/a")


def _soft_link(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name = target.name
    del file[name]
    file[name] = h5py.SoftLink(rng.choice((name, "/", "/nowhere", "/images/id", "/folds")))


def _hard_link(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name = target.name
    del file[name]
    file[name] = file[rng.choice(("/", "/folds"))]


def _external_storage(rng: random.Random, file: h5py.File, target: Any, secret: Path) -> None:
    name, shape, kind = target.name, getattr(target, "shape", (8,)), getattr(target, "dtype", np.dtype("u1"))
    del file[name]
    file.create_dataset(name, shape, kind, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _virtual(rng: random.Random, file: h5py.File, target: Any, secret: Path) -> None:
    name, shape, kind = target.name, getattr(target, "shape", (8,)), getattr(target, "dtype", np.dtype("u1"))
    del file[name]
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(secret, "a", shape)
    file.create_virtual_dataset(name, layout)


def _size(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    """Dimensions that nothing is behind."""
    shape = [rng.choice((*HUGE, 0, 1, 3)) if rng.random() < 0.7 else n for n in target.shape] or [HUGE[0]]
    chunks = tuple(rng.choice((1, 8, 1 << 16)) for _ in shape) if rng.random() < 0.9 else (1 << 26,) * len(shape)
    name, kind = target.name, target.dtype
    del file[name]
    packed = {"fletcher32": True, "compression": rng.choice((None, "gzip"))}
    file.create_dataset(name, tuple(shape), kind, chunks=chunks, maxshape=(None,) * len(shape), **packed)


def _resize(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    target.resize(rng.choice((0, 1, target.shape[0] + 1, target.shape[0] * 900, 1 << 33)), axis=0)


def _rank(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name, values = target.name, np.asarray(target[()])
    del file[name]
    values = rng.choice((values[None], values.ravel(), values[..., None], values.reshape(-1)[:1]))
    file.create_dataset(name, data=values, chunks=True, fletcher32=True)


def _type(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name, count = target.name, target.shape[0]
    kinds: list[Any] = ["f4", "f8", ">i8", "i4", "u8", "?", "S3", h5py.string_dtype(), [("a", "i8"), ("b", "S4")]]
    kinds += [h5py.ref_dtype, h5py.vlen_dtype("i4"), h5py.enum_dtype({"x": 1}), "(3,)i8", "V8", "c16"]
    del file[name]
    file.create_dataset(name, (count,), rng.choice(kinds), chunks=True, fletcher32=rng.random() < 0.8)


def _storage(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    """Contiguous, compact, without checksum, with filters that nobody has."""
    name, values, shape = target.name, target[()], target.shape
    plist = h5p.create(h5p.DATASET_CREATE)
    kind = rng.randrange(5)
    if kind < 2:
        plist.set_layout((h5d.CONTIGUOUS, h5d.COMPACT)[kind])
    else:
        plist.set_chunk(tuple(max(1, n) for n in shape))
        if kind == 2:
            plist.set_filter(rng.choice((32015, 307, 40000)), h5py.h5z.FLAG_OPTIONAL, (1, 2))
        elif kind == 3:
            plist.set_filter(32000, h5py.h5z.FLAG_OPTIONAL, ())  # LZF
        if rng.random() < 0.7:
            plist.set_fletcher32()
    del file[name]
    made = h5d.create(file.id, name.encode(), h5t.py_create(values.dtype), h5s.create_simple(shape), plist)
    h5py.Dataset(made)[...] = values


def _scalar(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name = target.name
    del file[name]
    file[name] = rng.choice((np.int64(3), np.bytes_("x"), h5py.Empty("i8"), np.dtype("i8"), np.zeros((), "u1")))


def _group(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    name = target.name
    del file[name]
    if rng.random() < 0.7:
        file.create_group(name)


def _more(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    place = target if isinstance(target, h5py.Group) else target.parent
    place[rng.choice(("more", "10", "-1", "٣", "1e3", "9999999", "auxiliary", "a b", "classes"))] = np.arange(3)


def _values(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    values = target[()]
    flat = values.reshape(-1)
    for _ in range(rng.choice((1, 1, 3, 20))):
        place = rng.randrange(len(flat))
        if values.dtype.kind == "S":
            raw = rng.choice((*(text.encode("utf-8", "surrogatepass") for text in TEXTS), b"\xff\xfe", flat[0]))
            flat[place] = raw[: values.dtype.itemsize]
        elif values.dtype == np.uint8:
            flat[place] = rng.randrange(256)
        else:
            flat[place] = rng.choice((*NUMBERS, len(flat), int(flat[place]) + 1, int(flat[place]) - 1))
    target[...] = flat.reshape(values.shape)


def _attribute(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    owner = rng.choice((file, file, file, target))
    name = rng.choice((*owner.attrs, "more"))
    text = rng.choice((*TEXTS, "x" * 70_000, str(10**30))).encode("utf-8", "surrogatepass")
    if name == "protocol" and rng.random() < 0.7:
        text = spoil_json(rng, json.loads(bytes(owner.attrs[name]).decode())).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        owner.attrs[name] = rng.choice((3, "variable", np.zeros(9), h5py.Empty("S4"), [b"a", b"b"], np.float64("nan")))
    elif rng.random() < 0.2:
        del owner.attrs[name]
    else:
        owner.attrs[name] = np.bytes_(text or b"\0")


def _picture(rng: random.Random, file: h5py.File, target: Any, _: Path) -> None:
    """The bytes of an image or mask become those of something worse, of the same length."""
    groups = [file[name] for name in _with_blobs(file)]
    group = rng.choice(groups)
    if max(group["offset"].size, group["bytes"].size) > 1 << 20:
        raise ValueError("changed before")
    offsets = group["offset"][()]
    place = rng.randrange(len(offsets) - 1)
    start, size = int(offsets[place]), int(offsets[place + 1] - offsets[place])
    content = rng.choice((*_PICTURES, spoil_bytes(rng, bytes(group["bytes"][start : start + size]))))
    group["bytes"][start : start + size] = np.frombuffer(content[:size].ljust(size, b"\0"), np.uint8)


def _with_blobs(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Group) and "offset" in item else None
    )
    return found


def _png(width: int, height: int, bits: int = 8, colour: int = 0, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*c) for c in chunks) + data + chunk(b"IEND", b"")
    )


_PICTURES = (
    _png(60_000, 60_000), _png(1 << 31, 1), _png(0, 0), _png(48, 40, 16), _png(48, 40, 8, 2), _png(48, 40, 8, 6),
    _png(48, 40, 8, 3), _png(13_000, 13_000),
    _png(48, 40, 8, 0, (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 18)))),
    _png(48, 40, 8, 0, (b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 18)))),
    b"GIF89a" + bytes(50), b"II*\0" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    b"RIFF\x20\0\0\0WEBPVP8 ", b"BM" + bytes(60), b"", b"\xff\xd8\xff\xe0" + bytes(80),
    b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(40), b"P5 99999 99999 255\n",
)  # fmt: skip

Change = Callable[[random.Random, h5py.File, Any, Path], None]
_CHANGES: tuple[Change, ...] = (
    _external_link, _soft_link, _hard_link, _external_storage, _virtual, _size, _resize, _rank, _type, _storage,
    _scalar, _group, _more, _values, _values, _values, _attribute, _attribute, _picture, _picture,
)  # fmt: skip
