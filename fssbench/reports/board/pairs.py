"""What the page that compares two results of a board reads: episodes once a board, their IoU once a result.

Scripts that set a value, since a page opened from disk may load no other kind of file.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from fssbench.names import SEPARATOR
from fssbench.reports.entries.rankings import Board, Ranked
from fssbench.scoring.metrics import BACKGROUND_CLASS

KEY = ["fold", "run", "episode", "way"]


def rows_of(board: Board) -> pd.DataFrame:
    """Every row that any result of the board has, background left out, in the order of its files."""
    frames = list({id(entry.rows): entry.rows for entry in board.entries}.values())
    whole = pd.concat(frames, ignore_index=True).drop_duplicates(KEY).sort_values(KEY, ignore_index=True)
    chosen: pd.DataFrame = whole[whole["class_id"] != BACKGROUND_CLASS]
    return chosen.reset_index(drop=True)


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


def ious_script(entry: Ranked, rows: pd.DataFrame) -> str:
    """IoU in thousandths of every row (null where there is none), and the scores by class with their bounds."""
    ious = pd.Series(entry.scores.ious, index=pd.MultiIndex.from_frame(entry.rows[KEY]))
    wanted = ious.reindex(pd.MultiIndex.from_frame(rows[KEY])).to_numpy(np.float64)
    return _script("fssbenchIous", entry.slug, {
        "miou": entry.scores.miou.value,
        "beats": sorted(entry.beats) if entry.tested else None,
        "classes": {c.name: [c.score.value, c.score.low, c.score.high, c.fold, c.episodes]
                    for c in entry.scores.classes},
        "ious": [None if np.isnan(value) else round(1000 * value) for value in wanted.tolist()],
    })  # fmt: skip


def _script(name: str, key: str | None, value: Any) -> str:
    """JavaScript that sets a value; JSON in ASCII is a part of that language."""
    place = f"window.{name}" if key is None else f"(window.{name} ??= {{}})[{json.dumps(key)}]"
    return f"{place} = {json.dumps(value, separators=(',', ':'), allow_nan=False)};\n"
