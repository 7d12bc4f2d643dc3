"""In what two banks differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import Bank
from fssbench.banks.sampling import Episodes
from fssbench.banks.writer import Plan


def differences(first: Bank, second: Bank) -> Iterator[str]:
    """One line a difference that the fingerprint sees, then those of the image files. None if there is none."""
    a, b = plan_of(first), plan_of(second)
    yield from _values("dataset", {"name": a.dataset}, {"name": b.dataset})
    yield from _values("protocol", a.protocol.model_dump(), b.protocol.model_dump())
    yield from _values("annotations", a.annotations, b.annotations)
    yield from _values("classes of fold", a.fold_classes, b.fold_classes)
    yield from _images(a, b)
    for key in sorted(a.episodes.keys() | b.episodes.keys()):
        where = f"fold {key[0]}, {key[1]} shots"
        if key not in a.episodes or key not in b.episodes:
            yield f"{where}: only in the {'first' if key in a.episodes else 'second'}"
        else:
            yield from _episodes(where, _named(a, key), _named(b, key))


def _values(
    what: str, a: Mapping[str, object] | Mapping[int, object], b: Mapping[str, object] | Mapping[int, object]
) -> Iterator[str]:
    left, right = {str(k): v for k, v in a.items()}, {str(k): v for k, v in b.items()}
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            yield f"{what} {key}: {_shown(left.get(key, 'absent'))} | {_shown(right.get(key, 'absent'))}"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _images(a: Plan, b: Plan) -> Iterator[str]:
    both = sorted(a.images.keys() & b.images.keys())
    for what, names in (("first", a.images.keys() - b.images.keys()), ("second", b.images.keys() - a.images.keys())):
        if names:
            yield f"images: {len(names)} only in the {what}, e.g. {min(names)}"
    masks = [i for i in both if a.images[i].masks != b.images[i].masks]
    if masks:
        yield f"masks: {len(masks)} differ, e.g. {masks[0]}"
    files = [
        i
        for i in both
        if a.image_sha256.get(i) != b.image_sha256.get(i) and {i} <= a.image_sha256.keys() & b.image_sha256.keys()
    ]
    if files:
        yield f"image files: {len(files)} differ, e.g. {files[0]} (the fingerprint does not see this)"


def _named(plan: Plan, key: tuple[int, int]) -> list[tuple[object, ...]]:
    """Episodes by image names, so that banks with other images can be compared."""
    ids, episodes = np.array(plan.image_ids), plan.episodes[key]
    return [_row(ids, episodes, i) for i in range(len(episodes))]


def _row(ids: NDArray[np.str_], episodes: Episodes, i: int) -> tuple[object, ...]:
    auxiliary = () if episodes.auxiliary is None else tuple(ids[episodes.auxiliary[i].ravel()].tolist())
    classes, support = tuple(episodes.classes[i].tolist()), tuple(ids[episodes.support[i].ravel()].tolist())
    return int(episodes.run[i]), str(ids[episodes.query[i]]), classes, support, auxiliary


def _episodes(where: str, a: list[tuple[object, ...]], b: list[tuple[object, ...]]) -> Iterator[str]:
    if len(a) != len(b):
        yield f"{where}: {len(a)} | {len(b)} episodes"
    differing = [i for i in range(min(len(a), len(b))) if a[i] != b[i]]
    if differing:
        columns = ("run", "query", "classes", "supports", "auxiliary images")
        i = differing[0]
        changed = [name for name, left, right in zip(columns, a[i], b[i], strict=True) if left != right]
        yield f"{where}: {len(differing)} episodes differ, the first is {i} in its {', '.join(changed)}"
