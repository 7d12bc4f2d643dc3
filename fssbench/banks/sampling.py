"""Episodes from lists of images: pure functions, drawn as a protocol says.

Images are numbers here, and everything is a function of the lists and the seed. The supports of an episode come from a
stream of their own, so that more shots, or several supports for one query, leave everything else as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.randomness import below, choose, sample, shuffled, stream
from fssbench.banks.replays import replay
from fssbench.errors import ProtocolError
from fssbench.protocol import Protocol

_QUERIES, _WAYS, _SUPPORTS, _AUXILIARY = ((0, i) for i in range(4))  # the streams of a fold and seed

Pair = tuple[int, int]  # image, class


@dataclass(frozen=True)
class Pool:
    """The images of one fold, each class's in list order."""

    pairs: Sequence[Pair]  # every (image, class) that may be a query, in list order
    support: Mapping[int, Sequence[int]]  # class -> the images that may support it
    same: Mapping[int, frozenset[int]] = field(default_factory=dict)  # image -> it and its copies under other names

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that episodes are drawn for, ascending."""
        return tuple(sorted(self.support))

    def queries(self) -> dict[int, list[int]]:
        """Class -> the images that may be its query."""
        lists: dict[int, list[int]] = {c: [] for c in self.classes}
        for image, class_id in self.pairs:
            lists[class_id].append(image)
        return lists

    def copies(self, image: int) -> frozenset[int]:
        """An image and those that show the same picture."""
        return self.same.get(image, frozenset((image,)))


@dataclass(frozen=True)
class Shape:
    """How many of everything an episode has."""

    ways: int = 1
    shots: int = 1
    repeats: int = 1  # different support sets for one query
    auxiliary: int = 0  # images of each class beside the supports


@dataclass(frozen=True)
class Episodes:
    """The episodes of a fold, one a row; `support`, `query` and `auxiliary` number the bank's images."""

    classes: NDArray[np.int64]  # E x N, class ids
    support: NDArray[np.int64]  # E x N x K
    query: NDArray[np.int64]  # E
    run: NDArray[np.int64]  # E, 0 for the first seed
    group: NDArray[np.int64]  # E, the same for episodes that differ in their supports only
    auxiliary: NDArray[np.int64] | None = None  # E x N x A

    def __len__(self) -> int:
        return len(self.query)


def draw(protocol: Protocol, pool: Pool, fold: int, shape: Shape) -> Episodes:
    """All episodes of a fold, run after run. Raises `ProtocolError` where the pool cannot give them."""
    if not pool.pairs:
        raise ProtocolError(f"fold {fold}: expected images of its classes in the pool, found none.")
    rows = [row for run in range(len(protocol.seeds)) for row in _draw_run(protocol, pool, fold, run, shape)]
    classes, support, query, auxiliary, run_of, group = zip(*rows, strict=True)
    return Episodes(
        classes=np.array(classes, dtype=np.int64),
        support=np.array(support, dtype=np.int64),
        query=np.array(query, dtype=np.int64),
        run=np.array(run_of, dtype=np.int64),
        group=np.array(group, dtype=np.int64),
        auxiliary=np.array(auxiliary, dtype=np.int64) if shape.auxiliary else None,
    )


_Row = tuple[tuple[int, ...], list[list[int]], int, list[list[int]], int, int]


def _draw_run(protocol: Protocol, pool: Pool, fold: int, run: int, shape: Shape) -> list[_Row]:
    """The episodes of one seed."""
    seed = protocol.seeds[run]
    if protocol.replays:
        most = min(protocol.episodes, len(pool.pairs)) if protocol.one_pass else protocol.episodes
        drawn = replay(protocol.replays, pool.pairs, shape.shots, most, seed)
        first = run * protocol.episodes
        return [((c,), [list(s)], q, [[]], run, first + i) for i, (q, c, s) in enumerate(drawn)]
    rows: list[_Row] = []
    ways_rng = stream(seed, fold, *_WAYS)
    for i, (query, class_id) in enumerate(_queries(protocol, pool, fold, run)):
        classes = (_ways_by_chance if protocol.negatives else _ways)(ways_rng, pool, class_id, shape.ways)
        for repeat in range(shape.repeats):
            support = _supports(stream(seed, fold, *_SUPPORTS, i, repeat), protocol, pool, query, classes, shape.shots)
            met = (query, *(image for way in support for image in way))
            taken = {copy for image in met for copy in pool.copies(image)}
            auxiliary = _auxiliary(stream(seed, fold, *_AUXILIARY, i, repeat), pool, taken, classes, shape.auxiliary)
            rows.append((classes, support, query, auxiliary, run, run * protocol.episodes + i))
    return rows


def _queries(protocol: Protocol, pool: Pool, fold: int, run: int) -> list[Pair]:
    """The query and its class of every episode of a run."""
    rng = stream(protocol.seeds[run], fold, *_QUERIES)
    count, lists = protocol.episodes, pool.queries()
    match protocol.class_draw, protocol.query_draw:
        case "balanced", "even":
            return _balanced(rng, lists, count)
        case "uniform", "random":
            drawn = (choose(rng, pool.classes) for _ in range(count))
            return [(choose(rng, lists[c]), c) for c in drawn]
        case "image", "list" | "continued":
            start = run * count if protocol.query_draw == "continued" else 0
            return _by_image(rng, pool, start, count)
        case "pair", "list":
            return [pool.pairs[i % len(pool.pairs)] for i in range(count)]
        case class_draw, query_draw:
            raise ProtocolError(
                f"protocol {protocol.name}: class_draw {class_draw!r} and query_draw {query_draw!r} do not go together."
                " Known: balanced+even, uniform+random, image+list, image+continued, pair+list."
            )


def _balanced(rng: np.random.Generator, lists: Mapping[int, Sequence[int]], count: int) -> list[Pair]:
    """Every class equally often; within a class every image once before any comes again."""
    order = shuffled(rng, sorted(lists))  # which classes get one more, where the count does not divide
    pairs: list[Pair] = []
    for place, class_id in enumerate(order):
        wanted = count // len(order) + (place < count % len(order))
        images: list[int] = []
        while len(images) < wanted:
            images += shuffled(rng, lists[class_id])
        pairs += [(image, class_id) for image in images[:wanted]]
    return shuffled(rng, pairs)


def _by_image(rng: np.random.Generator, pool: Pool, start: int, count: int) -> list[Pair]:
    """The images that may support some class, in list order and again; the class is any that the image shows."""
    shown: dict[int, list[int]] = {}
    for image, class_id in pool.pairs:
        shown.setdefault(image, []).append(class_id)
    supporting = {image for images in pool.support.values() for image in images}
    images = [image for image in shown if image in supporting]
    walked = (images[i % len(images)] for i in range(start, start + count))
    return [(image, choose(rng, shown[image])) for image in walked]


def _ways(rng: np.random.Generator, pool: Pool, class_id: int, ways: int) -> tuple[int, ...]:
    """The query's class among `ways - 1` others of the fold, at a random place."""
    if ways == 1:
        return (class_id,)
    others = sample(rng, [c for c in pool.classes if c != class_id], ways - 1)
    others.insert(below(rng, ways), class_id)
    return tuple(others)


def _ways_by_chance(rng: np.random.Generator, pool: Pool, class_id: int, ways: int) -> tuple[int, ...]:
    """Classes of the fold one after the other, the query's having as many tickets as all the others together."""
    left, chosen = list(pool.classes), list[int]()
    if len(left) < 2:
        raise ProtocolError("negatives: expected at least two classes in a fold, found one. Leave --negatives out.")
    for _ in range(ways):
        tickets = [c for c in left for _ in range(len(pool.classes) - 1 if c == class_id else 1)]
        chosen.append(choose(rng, tickets))
        left.remove(chosen[-1])
    return tuple(chosen)


def _supports(
    rng: np.random.Generator, protocol: Protocol, pool: Pool, query: int, classes: tuple[int, ...], shots: int
) -> list[list[int]]:
    """N lists of K images. Shot by shot, so that the first k do not depend on K."""
    support: list[list[int]] = [[] for _ in classes]
    taken = set(pool.copies(query))
    for _ in range(shots):
        for way, class_id in enumerate(classes):
            image = _another(rng, pool, class_id, taken)
            support[way].append(image)
            if protocol.support_draw == "distinct":
                taken |= pool.copies(image)
    return support


def _auxiliary(
    rng: np.random.Generator, pool: Pool, taken: set[int], classes: tuple[int, ...], count: int
) -> list[list[int]]:
    """N lists of A images that are neither query nor support."""
    lists: list[list[int]] = []
    for class_id in classes:
        images: list[int] = []
        for _ in range(count):
            images.append(_another(rng, pool, class_id, taken))
            taken |= pool.copies(images[-1])
        lists.append(images)
    return lists


def _another(rng: np.random.Generator, pool: Pool, class_id: int, taken: set[int]) -> int:
    """An image of the class that is not taken, uniform."""
    images = pool.support[class_id]
    if len(images) <= len(taken) and taken.issuperset(images):
        raise ProtocolError(
            f"class {class_id}: all of its {len(images)} images are already in the episode. "
            "Ask for fewer shots, ways or auxiliary images, or leave out short classes by --skip-short-classes."
        )
    while (image := choose(rng, images)) in taken:
        pass
    return image
