"""Draws that give the same numbers for ever.

NumPy promises that a bit generator's raw stream never changes, but not the methods built on it. So everything random
in a bank is made here from raw 64-bit words, and a bank's fingerprint does not depend on the NumPy release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_WORDS = 1 << 64


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent generator for every seed and key, e.g. (fold, run, episode)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def named_stream(seed: int, name: str) -> np.random.Generator:
    """An independent generator for every seed and text, e.g. an image's name."""
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return stream(seed, *(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4)))


def below(rng: np.random.Generator, n: int) -> int:
    """Uniform in 0..n-1, unbiased: words beyond the last full multiple of n are drawn again."""
    limit = _WORDS - _WORDS % n
    while (word := int(rng.bit_generator.random_raw())) >= limit:
        pass
    return word % n


def choose(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of `items`."""
    return items[below(rng, len(items))]


def shuffled(rng: np.random.Generator, items: Sequence[T]) -> list[T]:
    """All of `items` in random order (Fisher and Yates)."""
    return sample(rng, items, len(items))


def sample(rng: np.random.Generator, items: Sequence[T], count: int) -> list[T]:
    """`count` distinct positions of `items`, in the order drawn; the first k do not depend on `count`."""
    left = list(items)
    for i in range(count):
        j = i + below(rng, len(left) - i)
        left[i], left[j] = left[j], left[i]
    return left[:count]
