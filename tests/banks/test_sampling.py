"""Episodes keep the rules of their protocol, whatever the data."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fssbench.banks.sampling import Episodes, Pool, Shape, draw
from fssbench.errors import ProtocolError
from fssbench.protocol import Protocol
from fssbench.protocols import FSSBENCH, HSNET, PANET, PFENET, REPRI

CLASSES = (3, 4, 5, 6)


@st.composite
def pools(draw_from: st.DrawFn) -> Pool:
    """20 to 60 images with one to three of four classes, each class in at least 12; some are queries only."""
    count = draw_from(st.integers(20, 60))
    shown = [
        draw_from(st.sets(st.sampled_from(CLASSES), min_size=1, max_size=3)) | {CLASSES[image % 4]}
        for image in range(count)
    ]
    for image in range(min(count, 12)):
        shown[image] |= set(CLASSES)
    pairs = [(image, c) for image in range(count) for c in sorted(shown[image])]
    dropped = draw_from(st.sets(st.integers(12, count - 1), max_size=5))
    support = {c: [image for image, k in pairs if k == c and image not in dropped] for c in CLASSES}
    return Pool(pairs, support)


def rows(episodes: Episodes) -> list[tuple[int, list[int], list[list[int]]]]:
    return list(zip(episodes.query.tolist(), episodes.classes.tolist(), episodes.support.tolist(), strict=True))


@pytest.mark.parametrize("protocol", [FSSBENCH, PANET, PFENET, REPRI], ids=lambda p: p.name)
@settings(max_examples=25, deadline=None)
@given(pool=pools(), ways=st.integers(1, 2), shots=st.integers(1, 4), seed=st.integers(0, 1000))
def test_episodes_keep_the_rules(protocol: Protocol, pool: Pool, ways: int, shots: int, seed: int) -> None:
    few = protocol.but(episodes=13, seeds=(seed, seed + 1))
    queries = pool.queries()
    episodes = draw(few, pool, 0, Shape(ways, shots, auxiliary=1))
    assert len(episodes) == 26
    assert episodes.auxiliary is not None
    for (query, classes, support), auxiliary in zip(rows(episodes), episodes.auxiliary.tolist(), strict=True):
        assert len(set(classes)) == ways
        assert any(query in queries[c] for c in classes)  # the query holds one of the ways
        used = [query, *(image for way in support for image in way), *(image for way in auxiliary for image in way)]
        assert len(set(used)) == len(used)  # no image twice, the query not among the supports
        for class_id, images, others in zip(classes, support, auxiliary, strict=True):
            assert set(images) <= set(pool.support[class_id])
            assert set(others) <= set(pool.support[class_id])


@settings(max_examples=25, deadline=None)
@given(pool=pools(), ways=st.integers(1, 2), shots=st.integers(2, 4), seed=st.integers(0, 1000))
def test_fewer_shots_are_the_first_columns_of_more(pool: Pool, ways: int, shots: int, seed: int) -> None:
    protocol = FSSBENCH.but(episodes=10, seeds=(seed,))
    many, one = (draw(protocol, pool, 0, Shape(ways, k)) for k in (shots, 1))
    assert many.support[:, :, :1].tolist() == one.support.tolist()
    assert (many.query.tolist(), many.classes.tolist()) == (one.query.tolist(), one.classes.tolist())


@given(pool=pools(), episodes=st.integers(1, 90), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_by_default_classes_and_queries_are_used_evenly(pool: Pool, episodes: int, seed: int) -> None:
    drawn = draw(FSSBENCH.but(episodes=episodes, seeds=(seed,)), pool, 0, Shape(1, 1))
    classes = Counter(drawn.classes[:, 0].tolist())
    assert max(classes.values()) - min(classes[c] for c in CLASSES) <= 1
    for class_id, images in pool.queries().items():
        uses = Counter(drawn.query[drawn.classes[:, 0] == class_id].tolist())
        assert max((uses[i] for i in images), default=0) - min(uses[i] for i in images) <= 1


@given(pool=pools(), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_several_supports_for_a_query_share_all_but_the_supports(pool: Pool, seed: int) -> None:
    protocol = FSSBENCH.but(episodes=6, seeds=(seed,))
    once, thrice = (draw(protocol, pool, 0, Shape(1, 2, repeats)) for repeats in (1, 3))
    assert thrice.group.tolist() == [g for g in range(6) for _ in range(3)]
    assert thrice.query.tolist() == [q for q in once.query.tolist() for _ in range(3)]
    assert thrice.support[::3].tolist() == once.support.tolist()


def test_pfenet_walks_the_images_in_list_order_and_again() -> None:
    pool = Pool([(0, 3), (1, 3), (1, 4), (2, 4), (3, 3)], {3: [0, 1, 3], 4: [1, 2]})
    drawn = draw(PFENET.but(episodes=10), pool, 0, Shape(1, 1))
    assert drawn.query.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_repri_goes_on_in_the_list_where_the_last_run_stopped() -> None:
    pool = Pool([(0, 3), (1, 3), (2, 3)], {3: [0, 1, 2]})
    drawn = draw(REPRI.but(episodes=4, seeds=(1, 2)), pool, 0, Shape(1, 1))
    assert drawn.query.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert drawn.run.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("protocol", [FSSBENCH, PANET], ids=lambda p: p.name)
def test_a_run_depends_on_its_seed_and_not_on_its_number(protocol: Protocol) -> None:
    pairs = [(image, 3 + image % 2) for image in range(30)]
    pool = Pool(pairs, {3: list(range(0, 30, 2)), 4: list(range(1, 30, 2))})
    both = draw(protocol.but(episodes=12, seeds=(7, 1)), pool, 0, Shape(2, 2))
    alone = draw(protocol.but(episodes=12, seeds=(1,)), pool, 0, Shape(2, 2))
    assert rows(both)[12:] == rows(alone)
    assert rows(both)[:12] != rows(alone)


def test_a_small_object_is_a_query_but_never_a_support_where_the_filter_binds_supports_only() -> None:
    pool = Pool([(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)], {3: [0, 1, 2], 4: [0, 1]})  # 2 shows little of 4
    drawn = draw(PFENET.but(episodes=60), pool, 0, Shape(1, 1))
    assert 4 in drawn.classes[drawn.query == 2]
    assert 2 not in drawn.support[drawn.classes[:, 0] == 4]


def test_supports_are_uniform() -> None:
    pool = Pool([(i, 3) for i in range(6)], {3: list(range(6))})
    drawn = draw(FSSBENCH.but(episodes=6000), pool, 0, Shape(1, 2))
    counts = np.bincount(drawn.support.ravel(), minlength=6)
    assert abs(counts - 2000).max() < 200  # about five standard deviations


def test_an_episode_that_needs_more_images_than_there_are_is_refused_by_class() -> None:
    pool = Pool([(0, 3), (1, 3)], {3: [0, 1]})
    with pytest.raises(ProtocolError, match=r"class 3: all of its 2 images"):
        draw(FSSBENCH, pool, 0, Shape(1, 2))


def test_draws_that_do_not_go_together_are_refused() -> None:
    pool = Pool([(0, 3), (1, 3)], {3: [0, 1]})
    with pytest.raises(ProtocolError, match="do not go together"):
        draw(FSSBENCH.but(query_draw="list"), pool, 0, Shape(1, 1))


@pytest.mark.parametrize("protocol", [FSSBENCH, PANET, PFENET, REPRI], ids=lambda p: p.name)
@pytest.mark.parametrize("ways", [1, 2])
def test_copies_of_a_picture_never_meet_in_an_episode(protocol: Protocol, ways: int) -> None:
    pairs = [(image, CLASSES[image % 2]) for image in range(24)]
    support = {c: [image for image, k in pairs if k == c] for c in CLASSES[:2]}
    copies = {image: frozenset((image % 8, image % 8 + 8, image % 8 + 16)) for image in range(24)}
    protocol = protocol.but(episodes=60)
    shape = Shape(ways=ways, shots=2, auxiliary=1)
    episodes = draw(protocol, Pool(pairs, support, copies), 0, shape)
    assert episodes.auxiliary is not None
    plain = draw(protocol, Pool(pairs, support), 0, shape)
    met = 0
    for drawn, unseen in ((episodes, False), (plain, True)):
        for query, shown, more in zip(drawn.query, drawn.support, drawn.auxiliary, strict=True):
            pictures = [image % 8 for image in (query, *shown.ravel())]
            met += unseen and len(set(pictures)) < len(pictures)
            assert unseen or query % 8 not in {image % 8 for image in (*shown.ravel(), *more.ravel())}
    assert met > 20  # they do meet where nobody looks


@pytest.mark.parametrize(("ways", "expected"), [(1, 0.5), (2, 0.5 + 0.5 * 3 / 5), (4, 1.0)])
def test_of_the_ways_of_negatives_the_querys_class_is_as_likely_as_all_others(ways: int, expected: float) -> None:
    pool = Pool(
        [(image, CLASSES[image % 4]) for image in range(40)], {c: [*range(k, 40, 4)] for k, c in enumerate(CLASSES)}
    )
    plain, drawn = (draw(p.but(episodes=2000), pool, 0, Shape(ways)) for p in (FSSBENCH, FSSBENCH.with_negatives()))
    assert drawn.query.tolist() == plain.query.tolist()
    own = np.array([CLASSES[image % 4] for image in drawn.query.tolist()])
    assert abs((drawn.classes == own[:, None]).any(axis=1).mean() - expected) < 0.04  # 3.6 standard errors
    assert all(len(set(row)) == ways for row in drawn.classes.tolist())
    others = Counter(
        c for row, mine in zip(drawn.classes.tolist(), own.tolist(), strict=True) for c in row if c != mine
    )
    assert max(others.values()) < 1.25 * min(others.values())


def test_negatives_need_another_class_and_a_stream_of_our_own() -> None:
    alone = Pool([(image, 3) for image in range(9)], {3: range(9)})
    with pytest.raises(ProtocolError, match="at least two classes"):
        draw(FSSBENCH.with_negatives(), alone, 0, Shape())
    with pytest.raises(ProtocolError, match="knows no negatives"):
        HSNET.with_negatives()
