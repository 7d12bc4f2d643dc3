"""Random streams of published codebases, followed to the last episode.

Each takes the fold's (image, class) pairs in list order and gives (query, class, supports) an episode. NumPy's legacy
generator is frozen by its project. Python freezes nothing but `random()`, so what else the authors called (`shuffle`,
`sample`, `randint` of Python 3) is written out here, upon the Mersenne Twister's bits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import TypeVar

import numpy as np

from fssbench.protocol import Replay

T = TypeVar("T")
Pair = tuple[int, int]  # image, class
Drawn = tuple[int, int, tuple[int, ...]]  # query, class, supports


def replay(name: Replay, pairs: Sequence[Pair], shots: int, episodes: int, seed: int) -> list[Drawn]:
    """The first `episodes` of a published test loop."""
    return list(islice(_LOOPS[name](pairs, shots, seed), episodes))


def _oslsm(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """OSLSM's data layer in its deterministic mode: shuffled passes over the items; supports are the shuffled rest."""
    rng = random.Random(seed)
    images = _by_class(pairs)
    while True:
        for query, class_id in _python2_shuffled(rng, pairs):
            others = [image for image in images[class_id] if image != query]
            yield query, class_id, tuple(_python2_shuffled(rng, others)[:shots])


def _sgone(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """OSLSM's stream; at 1 shot SG-One takes the walked item as support and the random one as query."""
    for query, class_id, support in _oslsm(pairs, shots, seed):
        yield (support[0], class_id, (query,)) if shots == 1 else (query, class_id, support)


def _hsnet(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """HSNet's test loop: the list again and again; supports one by one, repeats allowed."""
    rng = np.random.RandomState(seed)
    images = _by_class(pairs)
    while True:
        for query, class_id in pairs:
            yield query, class_id, _others_permuted(rng, images[class_id], query, shots)


def _hsnet_coco(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """HSNet's test loop on COCO: class, query and supports drawn from the stored list of each class."""
    rng = np.random.RandomState(seed)
    images = _by_class(pairs)
    classes = sorted(images)
    while True:
        class_id = _permuted(rng, classes)
        query = _permuted(rng, images[class_id])
        yield query, class_id, _others_permuted(rng, images[class_id], query, shots)


def _hsnet_cyclic(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """PATNet's test loops beside FSS-1000: the classes by turns, query and supports drawn from a class."""
    rng = np.random.RandomState(seed)
    images = _by_class(pairs)
    for class_id in cycle(sorted(images)):
        query = _permuted(rng, images[class_id])
        yield query, class_id, _others_permuted(rng, images[class_id], query, shots)


def _hsnet_fss(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """HSNet's test loop on FSS-1000: the list in its order; supports drawn from a class's images by number."""
    rng = np.random.RandomState(seed)
    images = {class_id: sorted(found) for class_id, found in _by_class(pairs).items()}
    for query, class_id in cycle(pairs):
        yield query, class_id, _others_permuted(rng, images[class_id], query, shots)


def _pmms(pairs: Sequence[Pair], shots: int, seed: int) -> Iterator[Drawn]:
    """PMMs' test loop: the list in file order first, shuffled in place before every later pass."""
    rng = random.Random(seed)
    images = _by_class(pairs)
    walk = list(pairs)
    while True:
        for query, class_id in walk:
            if shots == 1:
                yield query, class_id, (_other(rng, images[class_id], query),)
            else:
                others = [image for image in images[class_id] if image != query]
                yield query, class_id, tuple(_sample(rng, others, shots))
        _shuffle(rng, walk)


def _permuted(rng: np.random.RandomState, items: Sequence[int]) -> int:
    """One item, drawn as HSNet does: the first of a permutation of them all."""
    return items[int(rng.choice(len(items), 1, replace=False)[0])]


def _others_permuted(rng: np.random.RandomState, images: Sequence[int], query: int, shots: int) -> tuple[int, ...]:
    """Supports one by one, each drawn until it is not the query; one may come again."""
    support: list[int] = []
    while len(support) < shots:
        if (image := _permuted(rng, images)) != query:
            support.append(image)
    return tuple(support)


def _other(rng: random.Random, images: Sequence[int], query: int) -> int:
    while (image := images[_below(rng, len(images))]) == query:
        pass
    return image


def _below(rng: random.Random, n: int) -> int:
    """`randrange(n)` of Python 3: bits, drawn again until they are below n."""
    while (drawn := rng.getrandbits(n.bit_length())) >= n:
        pass
    return drawn


def _shuffle(rng: random.Random, items: list[T]) -> None:
    """`shuffle` of Python 3, in place."""
    for i in range(len(items) - 1, 0, -1):
        j = _below(rng, i + 1)
        items[i], items[j] = items[j], items[i]


def _sample(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """`sample` of Python 3: from a shrinking copy of few items, else by drawing until each is another."""
    few = 21 if count <= 5 else 21 + 4 ** math.ceil(math.log(count * 3, 4))
    if len(items) <= few:
        left, drawn = list(items), []
        for last in range(len(left) - 1, len(left) - 1 - count, -1):
            place = _below(rng, last + 1)
            drawn.append(left[place])
            left[place] = left[last]
        return drawn
    places: dict[int, None] = {}  # in the order of drawing
    while len(places) < count:
        places[_below(rng, len(items))] = None
    return [items[place] for place in places]


def _by_class(pairs: Sequence[Pair]) -> dict[int, list[int]]:
    lists: dict[int, list[int]] = {}
    for image, class_id in pairs:
        lists.setdefault(class_id, []).append(image)
    return lists


def _python2_shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """`random.shuffle` as Python 2 did it: one float an element."""
    left = list(items)
    for i in range(len(left) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        left[i], left[j] = left[j], left[i]
    return left


_LOOPS: dict[str, Callable[[Sequence[Pair], int, int], Iterator[Drawn]]] = {
    "oslsm": _oslsm,
    "sgone": _sgone,
    "hsnet": _hsnet,
    "hsnet-coco": _hsnet_coco,
    "hsnet-cyclic": _hsnet_cyclic,
    "hsnet-fss": _hsnet_fss,
    "pmms": _pmms,
}
