"""The published random streams are followed to the last episode: hashes of 1000 episodes a fold."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

from fssbench.banks import replays
from fssbench.banks.replays import replay
from fssbench.datasets.coco_lists import val2014_pairs
from fssbench.datasets.voc_lists import pascal5i_pairs
from fssbench.protocol import Replay

PUBLISHED = json.loads((Path(__file__).parent / "published_episodes.json").read_text())
SEEDS = {"oslsm": 1385, "pmms": 1385, "hsnet": 0, "hsnet-coco": 0}

Named = list[tuple[str, int, list[str]]]


def drawn(name: Replay, fold: int, shots: int, episodes: int = 1000) -> Named:
    """Episodes by image names, from the lists that come with the package."""
    if name == "hsnet-coco":
        found = replay(name, val2014_pairs(fold), shots, episodes, SEEDS[name])
        return [(coco(query), class_id, [coco(i) for i in support]) for query, class_id, support in found]
    listed = pascal5i_pairs("oslsm" if name == "oslsm" else "val")
    pairs = [pair for pair in listed if (pair[1] - 1) // 5 == fold]
    ids = sorted({image for image, _ in pairs})
    numbered = [(ids.index(image), class_id) for image, class_id in pairs]
    found = replay(name, numbered, shots, episodes, SEEDS[name])
    return [(ids[query], class_id, [ids[i] for i in support]) for query, class_id, support in found]


def coco(number: int) -> str:
    return f"val2014/COCO_val2014_{number:012d}.jpg"


def text(episodes: Named) -> str:
    return "".join(f"{query} {class_id} {' '.join(support)}\n" for query, class_id, support in episodes)


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_published_test_loop_is_reproduced(key: str) -> None:
    name, fold, shots = key.split()
    digest = hashlib.sha256(text(drawn(name, int(fold), int(shots))).encode()).hexdigest()  # type: ignore[arg-type]
    assert digest.startswith(PUBLISHED[key])
    assert len(PUBLISHED[key]) >= 16


def test_all_folds_of_four_test_loops_are_published_at_1_and_5_shots() -> None:
    assert len(PUBLISHED) == 4 * 4 * 2


@pytest.mark.parametrize(("fold", "repeats"), [(0, 22), (1, 16), (2, 39), (3, 27)])
def test_hsnet_repeats_a_support_of_coco_as_often_as_its_code_does(fold: int, repeats: int) -> None:
    assert sum(len(set(support)) < 5 for _, _, support in drawn("hsnet-coco", fold, 5)) == repeats


@pytest.mark.parametrize("shots", [2, 10])
def test_hsnet_on_coco_is_followed_at_other_numbers_of_shots(shots: int) -> None:
    lists = {c: [n for n, k in val2014_pairs(2) if k == c] for c in range(3, 81, 4)}
    np.random.seed(0)  # noqa: NPY002 (as the authors do it: the global generator)

    def choice(items: list[int]) -> int:
        return int(np.random.choice(items, 1, replace=False)[0])  # noqa: NPY002

    expected: Named = []
    for _ in range(100):
        class_id = choice(list(lists))
        query, names = choice(lists[class_id]), []
        while len(names) < shots:
            if (name := choice(lists[class_id])) != query:
                names.append(coco(name))
        expected.append((coco(query), class_id, names))
    assert drawn("hsnet-coco", 2, shots, 100) == expected


@pytest.mark.parametrize(("fold", "repeats"), [(0, 133), (1, 112), (2, 53), (3, 133)])
def test_hsnet_repeats_a_support_as_often_as_its_code_does(fold: int, repeats: int) -> None:
    assert sum(len(set(support)) < 5 for _, _, support in drawn("hsnet", fold, 5)) == repeats


@pytest.mark.parametrize("shots", [2, 3, 10])
def test_oslsm_gives_the_same_queries_and_first_supports_for_any_number_of_shots(shots: int) -> None:
    ten = drawn("oslsm", 1, 10)
    assert drawn("oslsm", 1, shots) == [(query, class_id, support[:shots]) for query, class_id, support in ten]


@pytest.mark.parametrize("shots", [2, 3, 10])
def test_hsnet_is_followed_at_other_numbers_of_shots(shots: int) -> None:
    pairs = [pair for pair in pascal5i_pairs("val") if pair[1] <= 5]
    np.random.seed(0)  # noqa: NPY002 (as the authors do it: the global generator)
    expected: Named = []
    for i in range(200):
        query, class_id = pairs[i % len(pairs)]
        names: list[str] = []
        while True:
            name = str(np.random.choice([n for n, c in pairs if c == class_id], 1, replace=False)[0])  # noqa: NPY002
            if name != query:
                names.append(name)
            if len(names) == shots:
                break
        expected.append((query, class_id, names))
    assert drawn("hsnet", 0, shots, 200) == expected


@pytest.mark.parametrize("shots", [2, 3, 10])
def test_pmms_is_followed_at_other_numbers_of_shots(shots: int) -> None:
    walk = [pair for pair in pascal5i_pairs("val") if pair[1] > 15]
    lists = {c: [n for n, k in walk if k == c] for c in range(16, 21)}
    rng = random.Random(1385)
    expected: Named = []
    while len(expected) < 500:
        for query, class_id in walk:
            expected.append((query, class_id, rng.sample([n for n in lists[class_id] if n != query], shots)))
        rng.shuffle(walk)
    assert drawn("pmms", 3, shots, 500) == expected[:500]


def test_sgone_swaps_query_and_support_of_oslsm_at_one_shot_only() -> None:
    pairs = [(i, 1 + i % 2) for i in range(20)]
    walked = replay("oslsm", pairs, 1, 50, 1385)
    assert replay("sgone", pairs, 1, 50, 1385) == [(s[0], c, (q,)) for q, c, s in walked]
    assert replay("sgone", pairs, 5, 50, 1385) == replay("oslsm", pairs, 5, 50, 1385)


@pytest.mark.parametrize("size", [1, 2, 5, 20, 21, 22, 85, 86, 700])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 10])
def test_pythons_algorithms_are_written_out(size: int, count: int) -> None:
    ours, pythons, items = random.Random(size), random.Random(size), list(range(size))
    if count <= size:
        assert replays._sample(ours, items, count) == pythons.sample(items, count)
    assert replays._below(ours, size) == pythons.randint(0, size - 1)
    replays._shuffle(ours, items)
    expected = list(range(size))
    pythons.shuffle(expected)
    assert items == expected
    assert ours.getstate() == pythons.getstate()


def test_nothing_but_bits_and_floats_is_asked_of_pythons_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise AssertionError("its algorithm may change with Python's next release")

    for name in ("randint", "randrange", "choice", "choices", "sample", "shuffle", "uniform"):
        monkeypatch.setattr(random.Random, name, gone)
    pairs = [(i, 1 + i % 2) for i in range(30)]
    for name in ("oslsm", "sgone", "pmms"):
        assert len(replay(name, pairs, 3, 90, 1)) == 90
