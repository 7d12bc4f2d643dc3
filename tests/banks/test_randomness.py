"""Random words are PCG64's, and what is made from them is uniform and never changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fssbench.banks.randomness import below, named_stream, sample, shuffled, stream


def pcg64_words(rng: np.random.Generator, count: int) -> list[int]:
    """PCG64 (XSL-RR 128/64) from O'Neill's paper, written here for itself."""
    state = rng.bit_generator.state["state"]
    value, increment = state["state"], state["inc"]
    words = []
    for _ in range(count):
        value = (value * 0x2360ED051FC65DA44385DF649FCCF645 + increment) % (1 << 128)
        folded, turn = (value >> 64) ^ (value & ((1 << 64) - 1)), value >> 122
        words.append((folded >> turn | folded << (64 - turn)) & ((1 << 64) - 1))
    return words


def test_numbers_follow_from_the_words_of_pcg64() -> None:
    expected = [word % 1000 for word in pcg64_words(stream(7, 1, 2), 50)]  # no word is near the rejected end
    rng = stream(7, 1, 2)
    assert [below(rng, 1000) for _ in range(50)] == expected


def test_streams_of_other_keys_and_names_differ() -> None:
    firsts = {
        below(rng, 1 << 60) for rng in (stream(0), stream(1), stream(0, 1), stream(0, 1, 1), named_stream(0, "a"))
    }
    assert len(firsts) == 5


def test_every_order_of_three_is_equally_likely() -> None:
    rng = stream(5)
    counts = Counter(tuple(shuffled(rng, "abc")) for _ in range(6000))
    assert len(counts) == 6
    assert all(abs(count - 1000) < 150 for count in counts.values())  # five standard deviations


@given(st.integers(0, 2**32), st.lists(st.integers(), min_size=1, max_size=30, unique=True), st.data())
def test_a_smaller_sample_is_the_beginning_of_a_larger_one(seed: int, items: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(items)))
    whole = sample(stream(seed), items, len(items))
    assert sample(stream(seed), items, count) == whole[:count]
    assert sorted(whole) == sorted(items)
