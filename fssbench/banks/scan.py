"""One look at every mask of a pool: its size, its hash, and how much of each class it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fssbench.banks.sampling import Pair, Pool
from fssbench.datasets.base import Dataset, Layers, layers
from fssbench.errors import ProtocolError
from fssbench.protocol import Protocol

Progress = Callable[[Sequence[str], str], Iterable[str]]


@dataclass(frozen=True)
class MaskFacts:
    """What the sampler and the fingerprint need of an image's masks."""

    height: int
    width: int
    masks: tuple[tuple[int, str], ...]  # class id (0: all classes) and SHA-256 of each label map
    areas: Mapping[int, int]  # class -> px


def quiet(items: Sequence[str], what: str) -> Iterable[str]:
    """No progress bar."""
    return items


def scan(dataset: Dataset, ids: Sequence[str], progress: Progress = quiet) -> dict[str, MaskFacts]:
    """Facts of each image's masks, by image. Raises `DataError` for a mask that is absent or unreadable."""
    return {image_id: facts_of(layers(dataset, image_id)) for image_id in progress(ids, "reading masks")}


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

    def pairs_from(area: int) -> list[Pair]:
        ids = dataset.fold_image_ids(fold)
        return [(order[i], c) for i in ids for c in classes if facts[i].areas.get(c, 0) >= area]

    return Pool(pairs_from(least if protocol.filter_query else 1), _by_class(classes, pairs_from(least)))


def _by_class(classes: Sequence[int], pairs: Sequence[Pair]) -> dict[int, list[int]]:
    return {c: [image for image, class_id in pairs if class_id == c] for c in classes}
