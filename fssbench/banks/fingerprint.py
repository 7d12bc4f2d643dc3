"""The fingerprint: SHA-256 over a text that says everything a benchmark depends on.

The text, UTF-8, every line ended by a newline:

    fssbench bank 1
    dataset <name>
    protocol <canonical JSON>
    annotations <kind> <rule> seed <seed>            (a line a kind, sorted)
    fold <i> classes <class ids>                     (a line a fold)
    image <id> <SHA-256 of the label map> <h> <w>    (a line an image, in the bank's order: sorted by id)
    fold <i> shots <K>                               (a block a fold and draw)
    <run> <group> <query> | <classes> | <supports of way 1> | ... | <auxiliary of way 1> | ...

Images are numbered in the bank's order. It holds nothing of the image bytes, so a bank made from masks alone has the
same fingerprint; `attach` checks the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

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
    digest = hashlib.sha256()
    for line in _lines(dataset, protocol, fold_classes, images, episodes, annotations):
        digest.update(line.encode("utf-8") + b"\n")
    return digest.hexdigest()


def _lines(
    dataset: str,
    protocol: Protocol,
    fold_classes: Mapping[int, Sequence[int]],
    images: Mapping[str, MaskFacts],
    episodes: Mapping[tuple[int, int], Episodes],
    annotations: Mapping[str, str],
) -> Iterator[str]:
    yield "fssbench bank 1"
    yield f"dataset {dataset}"
    yield f"protocol {protocol.canonical_json()}"
    for kind in sorted(annotations):
        yield f"annotations {kind} {annotations[kind]}"
    for fold in sorted(fold_classes):
        yield f"fold {fold} classes {_words(fold_classes[fold])}"
    for image_id in sorted(images):
        facts = images[image_id]
        yield f"image {image_id} {facts.sha256} {facts.height} {facts.width}"
    for fold, shots in sorted(episodes):
        yield f"fold {fold} shots {shots}"
        yield from _rows(episodes[fold, shots])


def _rows(episodes: Episodes) -> Iterator[str]:
    for i in range(len(episodes)):
        sets = [*episodes.support[i], *(episodes.auxiliary[i] if episodes.auxiliary is not None else ())]
        head = f"{episodes.run[i]} {episodes.group[i]} {episodes.query[i]} | {_words(episodes.classes[i])}"
        yield " | ".join([head, *(_words(images) for images in sets)])


def _words(values: Sequence[int]) -> str:
    return " ".join(str(int(value)) for value in values)
