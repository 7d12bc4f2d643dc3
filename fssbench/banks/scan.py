"""One look at every mask of a pool: its size, its hash, and how much of each class it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fssbench.banks.sampling import Pair, Pool
from fssbench.banks.workers import spread
from fssbench.datasets.base import Dataset, Layers, layers
from fssbench.errors import ProtocolError
from fssbench.progress import Progress, quiet
from fssbench.protocol import Protocol


@dataclass(frozen=True)
class MaskFacts:
    """What the sampler and the fingerprint need of an image's masks."""

    height: int
    width: int
    masks: tuple[tuple[int, str], ...]  # class id (0: all classes) and SHA-256 of each label map
    areas: Mapping[int, int]  # class -> px


def scan(
    dataset: Dataset, ids: Sequence[str], progress: Progress = quiet, *, workers: int | None = 1
) -> dict[str, MaskFacts]:
    """Facts of each image's masks, by image. Raises `DataError` for a mask that is absent or unreadable."""
    found = spread(
        _facts,
        dataset,
        ids,
        "reading masks",
        workers=workers,
        progress=progress,
        part=lambda data, some: data.part(some),
    )
    return dict(zip(ids, found, strict=True))


def _facts(dataset: Dataset, image_id: str) -> MaskFacts:
    return facts_of(layers(dataset, image_id))


def facts_of(found: Layers) -> MaskFacts:
    """The facts of one image's decoded masks."""
    return MaskFacts(*found.shape, found.hashes, found.areas)


def pool_of(
    dataset: Dataset, protocol: Protocol, fold: int, facts: dict[str, MaskFacts], order: dict[str, int]
) -> Pool:
    """The pairs of a fold that the protocol's filter leaves; `order` numbers the images."""
    classes = dataset.fold_classes(fold)
    if protocol.pair_filter == "list":
        listed = dataset.pairs(fold)
        if listed is None:
            raise ProtocolError(
                f"protocol {protocol.name}: expected a published list of (image, class) pairs, but the image list "
                f"{dataset.pool!r} of {dataset.name} has none. Use another protocol, or a list by --lists."
            )
        pairs = [(order[image_id], class_id) for image_id, class_id in listed]
        return Pool(pairs, _by_class(classes, pairs))
    least = max(1, protocol.min_area if protocol.pair_filter == "area" else 1)
    ids = dataset.fold_image_ids(fold)

    def pairs_from(area: int) -> list[Pair]:
        shown = ((order[i], {c for c, px in facts[i].areas.items() if px >= area}) for i in ids)
        return [(image, c) for image, found in shown for c in classes if c in found]

    return Pool(pairs_from(least if protocol.filter_query else 1), _by_class(classes, pairs_from(least)))


def _by_class(classes: Sequence[int], pairs: Sequence[Pair]) -> dict[int, list[int]]:
    lists: dict[int, list[int]] = {c: [] for c in classes}
    for image, class_id in pairs:
        lists[class_id].append(image)
    return lists
