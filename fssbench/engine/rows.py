"""The rows of `episodes.csv.gz` from counted episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from fssbench.names import SEPARATOR
from fssbench.records import COLUMNS

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank

Key = tuple[int, int, int]  # fold, episode, way; of several ways, way 0 is the background
Counts = Sequence[int]  # the six of `fssbench.records.COUNTS`


def ways_of(ways: int) -> range:
    """The ways that have a row each: 1, or of several also the background as way 0."""
    return range(1 if ways == 1 else 0, ways + 1)


def frame_of(bank: Bank, shot: int, rows: Iterable[tuple[Key, Counts]]) -> pd.DataFrame:
    """`episodes.csv.gz` of counted episodes, ordered by fold, episode and way."""
    ids = bank.image_ids
    drawn = cache(lambda fold: bank.episodes(fold, shot))
    lines: list[list[object]] = []
    for (fold, episode, way), counts in sorted(rows):
        episodes = drawn(fold)
        supports = episodes.support[episode, way - 1 if way else slice(None)].ravel()
        lines.append([
            fold, int(episodes.run[episode]), episode, int(episodes.group[episode]), way,
            int(episodes.classes[episode, way - 1]) if way else 0,
            ids[int(episodes.query[episode])], SEPARATOR.join(ids[int(s)] for s in supports), *counts,
        ])  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)
