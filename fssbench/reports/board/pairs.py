"""What the page that compares two results of a board reads: episodes once a board, their IoU once a result.

Scripts that set a value, since a page opened from disk may load no other kind of file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fssbench.names import SEPARATOR
from fssbench.reports.entries.rankings import Board, Ranked
from fssbench.scoring.clusters import Ints
from fssbench.scoring.metrics import BACKGROUND_CLASS

KEY = ["fold", "run", "episode", "way"]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Every row that any result of a board has, background left out, in the order of its files."""

    rows: pd.DataFrame
    places: Mapping[int, Ints]  # by a result's `rows` (their id): where each of ours stands there, -1 for nowhere


def episodes_of(board: Board) -> Episodes:
    """The episodes of a board."""
    frames = {id(entry.rows): entry.rows for entry in board.entries}
    whole = pd.concat(frames.values(), ignore_index=True).drop_duplicates(KEY).sort_values(KEY, ignore_index=True)
    rows = whole[whole["class_id"] != BACKGROUND_CLASS].reset_index(drop=True)
    wanted = pd.MultiIndex.from_frame(rows[KEY])
    return Episodes(
        rows, {name: pd.MultiIndex.from_frame(each[KEY]).get_indexer(wanted) for name, each in frames.items()}
    )


def episodes_script(board: Board, rows: pd.DataFrame) -> str:
    """Fold, episode, class, query and supports of every row."""
    names = board.entries[0].run.bank.class_names
    classes = sorted(set(rows["class_id"].tolist()))
    queries, supports = pd.factorize(rows["query"]), rows["supports"].str.replace(SEPARATOR, " ")
    return _script("fssbenchRows", None, {
        "classes": [names.get(c, f"class {c}") for c in classes],
        "class": [classes.index(c) for c in rows["class_id"].tolist()],
        "fold": rows["fold"].tolist(), "episode": rows["episode"].tolist(),
        "queries": list(queries[1]), "query": queries[0].tolist(), "supports": supports.tolist(),
    })  # fmt: skip


def ious_script(entry: Ranked, episodes: Episodes) -> str:
    """IoU in thousandths of every row (null where there is none), and the scores by class with their bounds."""
    place = episodes.places[id(entry.rows)]
    wanted = np.where(place < 0, np.nan, entry.scores.ious[place].astype(np.float64))
    thousandths: list[int | None] = np.rint(np.nan_to_num(1000 * wanted)).astype(np.int64).tolist()
    for missing in np.flatnonzero(np.isnan(wanted)).tolist():
        thousandths[missing] = None
    return _script("fssbenchIous", entry.slug, {
        "miou": entry.scores.miou.value,
        "beats": sorted(entry.beats) if entry.tested else None,
        "classes": {c.name: [c.score.value, c.score.low, c.score.high, c.fold, c.episodes]
                    for c in entry.scores.classes},
        "ious": thousandths,
    })  # fmt: skip


def _script(name: str, key: str | None, value: Any) -> str:
    """JavaScript that sets a value; JSON in ASCII is a part of that language."""
    place = f"window.{name}" if key is None else f"(window.{name} ??= {{}})[{json.dumps(key)}]"
    return f"{place} = {json.dumps(value, separators=(',', ':'), allow_nan=False)};\n"
