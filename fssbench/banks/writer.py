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

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from fssbench import __version__
from fssbench.banks.fingerprint import fingerprint, image_fingerprint
from fssbench.banks.hdf5 import Blobs, new_hdf5, put, put_texts, text_column
from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts
from fssbench.banks.seal import BLOCK, write_seal
from fssbench.errors import BankError
from fssbench.files import remove_abandoned
from fssbench.protocol import Protocol


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
    """Raises `BankError` if `path` exists and may not be replaced, if another process is about to write it, or if
    nothing can be written there: before the data are read, which takes minutes.
    """
    if path.exists() and not force:
        raise BankError(f"{path} exists and is not overwritten: name another file by --out, or add --force.")
    if remove_abandoned(path):
        raise BankError(f"{path}: another process is writing this bank. Let it finish, or name another file by --out.")
    folder = next(place for place in path.absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = f"{folder}: {error.strerror}"
        raise BankError(f"{path}: the bank could not be written ({reason}). Name another place by --out.") from error


def write_bank(path: Path, plan: Plan, stored: Iterable[Stored], *, index: bool = False, force: bool = False) -> None:
    """Write and seal a bank, atomically. `stored` comes in the order of `plan.image_ids`.

    Raises `BankError` if `path` exists and not `force`, or if it did not exist and meanwhile does.
    """
    check_free(path, force)
    try:
        replace = path.exists()
        with new_hdf5(path, replace=replace, userblock=BLOCK, finish=write_seal) as (file, check):
            _write_plan(file, plan)
            _write_stored(file, plan, _checked(stored, check), index)
    except FileExistsError as error:
        raise BankError(f"{path}: another process wrote this bank first; its file is left as it is.") from error
    except OSError as error:
        raise BankError(f"{path}: the bank could not be written ({error}); nothing was left behind.") from error


def _checked(stored: Iterable[Stored], check: Callable[[], None]) -> Iterator[Stored]:
    """Stop reading images as soon as the file cannot be written, or is not wanted any more."""
    for item in stored:
        check()
        yield item


def _write_plan(file: h5py.File, plan: Plan) -> None:
    facts = {"dataset": plan.dataset, "pool": plan.pool, "note": plan.note, "fingerprint": plan.fingerprint}
    put_texts(file, {"creator": f"fssbench {__version__}", "protocol": plan.protocol.model_dump_json(), **facts})
    classes = sorted(plan.class_names)
    put(file, "classes/id", np.array(classes, dtype=np.int64))
    put(file, "classes/name", text_column([plan.class_names[c] for c in classes]))
    ids = plan.image_ids
    put(file, "images/id", text_column(ids))
    put(file, "images/height", np.array([plan.images[i].height for i in ids], dtype=np.int64))
    put(file, "images/width", np.array([plan.images[i].width for i in ids], dtype=np.int64))
    masks = [(place, *mask) for place, image_id in enumerate(ids) for mask in plan.images[image_id].masks]
    put(file, "masks/image", np.array([place for place, _, _ in masks], dtype=np.int64))
    put(file, "masks/class_id", np.array([class_id for _, class_id, _ in masks], dtype=np.int64))
    put(file, "masks/sha256", _hashes([digest for _, _, digest in masks]))
    for fold, held_out in plan.fold_classes.items():
        put(file, f"folds/{fold}/classes", np.array(held_out, dtype=np.int64))
    for (fold, shots), episodes in plan.episodes.items():
        for column in fields(episodes):
            values = getattr(episodes, column.name)
            if values is not None:
                put(file, f"folds/{fold}/{shots}/{column.name}", values)


def _write_stored(file: h5py.File, plan: Plan, stored: Iterable[Stored], index: bool) -> None:
    pairs = plan.annotated
    for kind in sorted(plan.annotations):
        put(file, f"annotations/{kind}/image", np.array([image for image, _ in pairs], dtype=np.int64))
        put(file, f"annotations/{kind}/class", np.array([class_id for _, class_id in pairs], dtype=np.int64))
        put_texts(file[f"annotations/{kind}"], {"rule": plan.annotations[kind]})
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
    put(file, "images/sha256", _hashes([digest or "0" * 64 for digest in hashes]))
    put_texts(file, {"image_fingerprint": image_fingerprint(plan.fingerprint, hashes)})


def _hashes(hashes: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, 32)
