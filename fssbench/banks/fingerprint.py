"""The two fingerprints: SHA-256 over canonical bytes that say everything a benchmark depends on.

The bytes are bencode (BEP 3): integers `i42e`, byte strings `4:spam`, lists `l...e`, dictionaries `d...e` with their
keys sorted. Every string says its length first, so no two contents give the same bytes, whatever a name holds.
Text is UTF-8; an array of whole numbers is the list of its shape and its values, int64, little-endian, in C order.

`fingerprint`, which a bank shares with its index, is over the dictionary

    format       "fssbench bank 2"
    dataset      name
    protocol     canonical JSON
    annotations  kind -> rule and seed
    folds        a list of [fold, class ids] by fold
    images       a list of [id, height, width, [[class id, SHA-256 of its label map], ...]] by id
    episodes     a list of [fold, shots, {classes, support, query, run, group, and auxiliary if there are any}]

where episodes number the images in that order, and class id 0 stands for a label map of all classes. It knows nothing
of the images' bytes, so a bank made from masks alone has the same. `image_fingerprint` adds them: it is over the list
["fssbench images 2", fingerprint, [SHA-256 of each image file, in order]].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts
from fssbench.protocol import Protocol


def fingerprint(
    dataset: str,
    protocol: Protocol,
    fold_classes: Mapping[int, Sequence[int]],
    images: Mapping[str, MaskFacts],
    episodes: Mapping[tuple[int, int], Episodes],
    annotations: Mapping[str, str],
) -> str:
    """Hex SHA-256. `episodes` by (fold, shots); `annotations`: kind -> "<rule> seed <seed>"."""
    return _sha256(
        {
            "format": "fssbench bank 2",
            "dataset": dataset,
            "protocol": protocol.canonical_json(),
            "annotations": annotations,
            "folds": [[fold, [int(c) for c in fold_classes[fold]]] for fold in sorted(fold_classes)],
            "images": [
                [image_id, facts.height, facts.width, [list(pair) for pair in facts.masks]]
                for image_id, facts in sorted(images.items())
            ],
            "episodes": [[fold, shots, _columns(episodes[fold, shots])] for fold, shots in sorted(episodes)],
        }
    )


def image_fingerprint(fingerprint: str, image_sha256: Sequence[str]) -> str:
    """Hex SHA-256 over the fingerprint and the image files; empty while one of them is not known."""
    return _sha256(["fssbench images 2", fingerprint, list(image_sha256)]) if all(image_sha256) else ""


def _columns(episodes: Episodes) -> dict[str, list[Any]]:
    values = {column.name: getattr(episodes, column.name) for column in fields(episodes)}
    return {name: _array(array) for name, array in values.items() if array is not None}


def _array(values: NDArray[np.int64]) -> list[Any]:
    return [list(values.shape), values.astype("<i8").tobytes()]


def _sha256(value: Any) -> str:
    digest = hashlib.sha256()
    for piece in bencode(value):
        digest.update(piece)
    return digest.hexdigest()


def bencode(value: Any) -> Iterator[bytes]:
    """Whole numbers, texts, bytes, lists and dictionaries with texts for keys, as pieces of bytes.

    >>> b"".join(bencode({"b": [1, "x|y"], "a": b""}))
    b'd1:a0:1:bli1e3:x|yee'
    """
    match value:
        case bytes():
            yield b"%d:" % len(value)
            yield value
        case str():
            yield from bencode(value.encode("utf-8"))
        case int():
            yield b"i%de" % value
        case Mapping():
            yield b"d"
            for key in sorted(value):
                yield from bencode(key)
                yield from bencode(value[key])
            yield b"e"
        case _:
            yield b"l"
            for item in value:
                yield from bencode(item)
            yield b"e"
