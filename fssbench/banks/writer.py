"""Writing a bank: HDF5 behind a seal, streamed, whole or absent.

    /                 attributes: creator, dataset, pool, protocol (JSON), note, fingerprint, image_fingerprint
    /classes          id, name
    /images           id, height, width, sha256 (zeros: not known), [offset, bytes]
    /masks            image, class_id (0: the pixels are class ids), sha256 (of the label map), [offset, bytes]
    /folds/<i>        classes
    /folds/<i>/<K>    classes, support, query, run, group, [auxiliary]
    /annotations/<kind>   attribute rule; image, class, [offset, bytes] (PNG of the codes)

What stands in brackets is missing from an index bank. An image has one mask of class id 0, or one for each class that
it shows. All data are chunked with the fletcher32 checksum; `fssbench.banks.schema` holds the types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fssbench import __version__
from fssbench.banks.fingerprint import fingerprint, image_fingerprint
from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts
from fssbench.banks.seal import BLOCK, write_seal
from fssbench.banks.sink import Sink, held_signals
from fssbench.errors import BankError
from fssbench.files import atomic_path, remove_abandoned
from fssbench.protocol import Protocol

_CHUNK = 1 << 16  # bytes; an image is one or two chunks
_BUFFER = 1 << 22  # bytes gathered before they go to the file: whole chunks, so that none is written twice


@dataclass(frozen=True)
class Plan:
    """Everything in a bank but the bytes of images, masks and annotations."""

    dataset: str
    pool: str
    protocol: Protocol
    class_names: Mapping[int, str]
    fold_classes: Mapping[int, tuple[int, ...]]
    images: Mapping[str, MaskFacts]  # those that some episode uses
    episodes: Mapping[tuple[int, int], Episodes]  # by fold and shots; numbers count sorted(images)
    note: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)  # kind -> rule and seed
    image_sha256: Mapping[str, str] = field(default_factory=dict)  # of the image files that are known already

    @cached_property
    def image_ids(self) -> list[str]:
        """The bank's images, in its order."""
        return sorted(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256, as fssbench.banks.fingerprint documents it."""
        return fingerprint(self.dataset, self.protocol, self.fold_classes, self.images, self.episodes, self.annotations)

    @cached_property
    def annotated(self) -> list[tuple[int, int]]:
        """The (image, class) pairs that are a support somewhere, ascending."""
        found: set[tuple[int, int]] = set()
        for episodes in self.episodes.values():
            classes = np.broadcast_to(episodes.classes[:, :, None], episodes.support.shape)
            found |= set(zip(episodes.support.ravel().tolist(), classes.ravel().tolist(), strict=True))
        return sorted(found)


@dataclass(frozen=True)
class Stored:
    """The bytes of one image, its masks and annotations. The image is None in an index bank made from masks alone."""

    image: bytes | None
    image_sha256: str  # empty: not known
    masks: tuple[bytes, ...]  # in the order of the plan's
    annotations: Mapping[str, Sequence[bytes]] = field(default_factory=dict)  # kind -> PNG of each annotated class


def check_free(path: Path, force: bool) -> None:
    """Raises `BankError` if `path` exists and may not be replaced, or if another process is about to write it."""
    if path.exists() and not force:
        raise BankError(f"{path} exists and is not overwritten: name another file by --out, or add --force.")
    if remove_abandoned(path):
        raise BankError(f"{path}: another process is writing this bank. Let it finish, or name another file by --out.")


def write_bank(path: Path, plan: Plan, stored: Iterable[Stored], *, index: bool = False, force: bool = False) -> None:
    """Write and seal a bank, atomically. `stored` comes in the order of `plan.image_ids`.

    Raises `BankError` if `path` exists and not `force`, or if it did not exist and meanwhile does.
    """
    check_free(path, force)
    try:
        with held_signals() as stop, atomic_path(path, replace=path.exists()) as temporary:
            with Sink(temporary) as sink:
                with h5py.File(sink, "w", userblock_size=BLOCK, libver="v110") as file:
                    _write_plan(file, plan)
                    _write_stored(file, plan, _while_whole(stored, sink, stop), index)
                sink.check()
            write_seal(temporary)
    except FileExistsError as error:
        raise BankError(f"{path}: another process wrote this bank first; its file is left as it is.") from error
    except OSError as error:
        raise BankError(f"{path}: the bank could not be written ({error}); nothing was left behind.") from error


def _while_whole(stored: Iterable[Stored], sink: Sink, stop: Callable[[], None]) -> Iterator[Stored]:
    """Stop reading images as soon as the file cannot be written, or is not wanted any more."""
    for item in stored:
        sink.check()
        stop()
        yield item


def _write_plan(file: h5py.File, plan: Plan) -> None:
    facts = {"dataset": plan.dataset, "pool": plan.pool, "note": plan.note, "fingerprint": plan.fingerprint}
    _put_texts(file, {"creator": f"fssbench {__version__}", "protocol": plan.protocol.model_dump_json(), **facts})
    classes = sorted(plan.class_names)
    _put(file, "classes/id", np.array(classes, dtype=np.int64))
    _put(file, "classes/name", _texts([plan.class_names[c] for c in classes]))
    ids = plan.image_ids
    _put(file, "images/id", _texts(ids))
    _put(file, "images/height", np.array([plan.images[i].height for i in ids], dtype=np.int64))
    _put(file, "images/width", np.array([plan.images[i].width for i in ids], dtype=np.int64))
    masks = [(place, *mask) for place, image_id in enumerate(ids) for mask in plan.images[image_id].masks]
    _put(file, "masks/image", np.array([place for place, _, _ in masks], dtype=np.int64))
    _put(file, "masks/class_id", np.array([class_id for _, class_id, _ in masks], dtype=np.int64))
    _put(file, "masks/sha256", _hashes([digest for _, _, digest in masks]))
    for fold, held_out in plan.fold_classes.items():
        _put(file, f"folds/{fold}/classes", np.array(held_out, dtype=np.int64))
    for (fold, shots), episodes in plan.episodes.items():
        for column in fields(episodes):
            values = getattr(episodes, column.name)
            if values is not None:
                _put(file, f"folds/{fold}/{shots}/{column.name}", values)


def _write_stored(file: h5py.File, plan: Plan, stored: Iterable[Stored], index: bool) -> None:
    pairs = plan.annotated
    for kind in sorted(plan.annotations):
        _put(file, f"annotations/{kind}/image", np.array([image for image, _ in pairs], dtype=np.int64))
        _put(file, f"annotations/{kind}/class", np.array([class_id for _, class_id in pairs], dtype=np.int64))
        _put_texts(file[f"annotations/{kind}"], {"rule": plan.annotations[kind]})
    groups = ["images", "masks", *(f"annotations/{kind}" for kind in sorted(plan.annotations))]
    blobs = {} if index else {group: Blobs(file, group) for group in groups}
    hashes = []
    for item in stored:
        hashes.append(item.image_sha256)
        if not index:
            blobs["images"].append(item.image or b"")
            for mask in item.masks:
                blobs["masks"].append(mask)
            for kind, pngs in item.annotations.items():
                for png in pngs:
                    blobs[f"annotations/{kind}"].append(png)
    for column in blobs.values():
        column.close()
    _put(file, "images/sha256", _hashes([digest or "0" * 64 for digest in hashes]))
    _put_texts(file, {"image_fingerprint": image_fingerprint(plan.fingerprint, hashes)})


class Blobs:
    """Byte strings, one after the other in `<group>/bytes`; string i is bytes[offset[i]:offset[i + 1]]."""

    def __init__(self, file: h5py.File, group: str) -> None:
        self._file, self._group = file, group
        self._bytes = file.create_dataset(
            f"{group}/bytes", (0,), maxshape=(None,), dtype=np.uint8, chunks=(_CHUNK,), fletcher32=True
        )
        self._offsets = [0]
        self._buffer = np.empty(_BUFFER, dtype=np.uint8)
        self._filled = 0

    def append(self, blob: bytes) -> None:
        """Add one byte string."""
        self._offsets.append(self._offsets[-1] + len(blob))
        left = np.frombuffer(blob, dtype=np.uint8)
        while len(left):
            count = min(len(left), _BUFFER - self._filled)
            self._buffer[self._filled : self._filled + count] = left[:count]
            self._filled += count
            left = left[count:]
            if self._filled == _BUFFER:
                self._flush()

    def close(self) -> None:
        """Write what is left, and the offsets."""
        self._flush()
        _put(self._file, f"{self._group}/offset", np.array(self._offsets, dtype=np.int64))

    def _flush(self) -> None:
        start = self._bytes.shape[0]
        self._bytes.resize(start + self._filled, axis=0)
        self._bytes[start:] = self._buffer[: self._filled]
        self._filled = 0


def _put(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    """A chunked, checksummed array, in chunks of about 64 KiB."""
    row = max(1, int(values.nbytes / max(1, len(values))))
    chunk = (max(1, min(len(values), _CHUNK // row)), *values.shape[1:])
    file.create_dataset(
        name,
        data=values,
        chunks=chunk,
        maxshape=(None, *values.shape[1:]),
        fletcher32=True,
        shuffle=True,
        compression="gzip",
    )


def _put_texts(group: h5py.Group, texts: Mapping[str, str]) -> None:
    """Attributes as texts of fixed length, which need no heap of HDF5's."""
    for name, text in texts.items():
        group.attrs[name] = np.bytes_(text.encode("utf-8") or b"\0")


def _texts(texts: Sequence[str]) -> NDArray[Any]:
    encoded = [text.encode("utf-8") for text in texts]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def _hashes(hashes: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, 32)
