"""The order of work: which episodes make a step, and what each step needs. Pure functions on integer arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fssbench.banks.bank import Episodes


@dataclass(frozen=True)
class Step:
    """Episodes of one fold that a method segments together at a number of shots."""

    method: int
    shot: int
    rows: NDArray[np.int64]  # their numbers within the fold


def plan_steps(
    episodes: Episodes, batch: int, shape_of: Callable[[int], Hashable] = lambda _: None
) -> list[NDArray[np.int64]]:
    """Cut a fold's episodes into steps of at most `batch`, episodes with the same query side by side.

    A query's features are then needed in one stretch and can be let go after it. A query with at least half a batch of
    episodes has steps of its own, in which its features are shared instead of copied. `shape_of` gives the network
    input size of an image: a step holds queries of one size only. The cut depends on nothing but the bank and `batch`,
    so a resumed run computes in the very batches of an uninterrupted one.
    """
    of_query: dict[int, list[int]] = {}
    for row, query in enumerate(episodes.query.tolist()):
        of_query.setdefault(query, []).append(row)
    steps: list[list[int]] = []
    packed: dict[Hashable, list[int]] = {}
    for query, rows in of_query.items():
        if 2 * len(rows) >= batch:
            steps += _cut(rows, batch)
        else:
            packed.setdefault(shape_of(query), []).extend(rows)
    for rows in packed.values():
        steps += _cut(rows, batch)
    return [np.array(rows) for rows in steps]


def in_order(steps: Sequence[Step], episodes: Episodes) -> list[Step]:
    """Steps of all methods and shots in one order, so that what works on the same queries stands together."""
    place = {query: number for number, query in enumerate(distinct(episodes.query))}
    return sorted(steps, key=lambda step: place[int(episodes.query[step.rows[0]])])


def _cut(rows: Sequence[int], batch: int) -> list[list[int]]:
    """Parts of at most `batch`, as equal as can be."""
    parts = -(-len(rows) // batch)
    return [part.tolist() for part in np.array_split(np.array(rows), parts)]


def distinct(values: NDArray[np.int64]) -> list[int]:
    """The distinct values of an array in order of appearance."""
    return list(dict.fromkeys(values.ravel().tolist()))


def other_classes(classes: Sequence[int], way: int) -> tuple[int, ...]:
    """The classes of an episode's other ways, sorted: part of what a support label depends on."""
    return tuple(sorted(c for index, c in enumerate(classes) if index != way))
