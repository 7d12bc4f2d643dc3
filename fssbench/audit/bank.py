"""A record's rows against the bank they claim to come from: the same episodes, images and numbers of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fssbench.audit.rows import EPISODE, place
from fssbench.audit.run import Problem
from fssbench.banks.bank import Bank, open_bank
from fssbench.datasets.masks import VOID
from fssbench.errors import BankError
from fssbench.names import SEPARATOR
from fssbench.predictions import FILE as PREDICTIONS
from fssbench.records import COUNTS, Run
from fssbench.scoring.pixels import scored_label


class Reference:
    """What an audit asks of a bank, remembered from one record to the next."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._areas: dict[tuple[str, tuple[int, ...]], NDArray[np.int64]] = {}  # pixels of 0, each way, and void
        self._expected: dict[tuple[int, int], pd.DataFrame] = {}

    @cached_property
    def images(self) -> dict[str, int]:
        """Image id -> number in the bank."""
        return {name: number for number, name in enumerate(self.bank.image_ids)}

    def pixels(self, query: str) -> int:
        """Pixels at the scoring resolution, ignored ones included."""
        scoring = self.bank.protocol.scoring
        if scoring != "original":
            return scoring[1] ** 2
        height, width = self.bank.image_sizes[self.images[query]].tolist()
        return int(height * width)

    @property
    def knows_areas(self) -> bool:
        """Whether the label maps are there, and are scored at their own size."""
        return self.bank.has_images and self.bank.protocol.scoring == "original"

    def areas(self, query: str, classes: tuple[int, ...], way: int) -> tuple[int, int]:
        """Pixels of a way's class, and pixels that are not scored, in the label map of a query."""
        key = (query, classes)
        if key not in self._areas:
            label = scored_label(self.bank.masks.truth(self.images[query], classes), self.bank.protocol)
            self._areas[key] = np.bincount(label.ravel(), minlength=VOID + 1)
        counts = self._areas[key]
        return int(counts[way]), int(counts[VOID])

    def rows(self, fold: int, shot: int) -> pd.DataFrame:
        """The episodes of a fold as the rows of a record, without background rows and counts."""
        if (fold, shot) not in self._expected:
            self._expected[fold, shot] = self._rows(fold, shot)
        return self._expected[fold, shot]

    def _rows(self, fold: int, shot: int) -> pd.DataFrame:
        episodes = self.bank.episodes(fold, shot)
        count, ways = episodes.classes.shape
        ids = np.array(self.bank.image_ids, dtype=object)
        columns = {
            "fold": np.full(count * ways, fold),
            "run": np.repeat(episodes.run, ways),
            "group": np.repeat(episodes.group, ways),
            "way": np.tile(np.arange(1, ways + 1), count),
            "class_id": episodes.classes.ravel(),
            "query": np.repeat(ids[episodes.query], ways),
            "supports": [SEPARATOR.join(names) for names in ids[episodes.support].reshape(count * ways, shot)],
        }
        return pd.DataFrame(columns)


def find_banks(paths: Iterable[Path]) -> dict[str, Reference]:
    """The banks at `paths` (files, or folders that are searched for `*.h5`) by fingerprint; full ones before indices.

    Raises `BankError` for a path that is neither, for a file named by itself that is no bank, and for a folder with
    files that are all none: one stray file among banks hinders nobody.
    """
    found: dict[str, Reference] = {}
    for path in paths:
        if not path.exists():
            raise BankError(f"--bank {path}: expected a bank or a folder of banks, found nothing.")
        files = [file for file in sorted(path.rglob("*.h5")) if file.name != PREDICTIONS] if path.is_dir() else [path]
        usable, failed = 0, None
        for file in files:
            try:
                bank = open_bank(file)
            except BankError as error:
                failed = failed or error
                continue
            usable += 1
            known = found.get(bank.fingerprint)
            if known is None or (bank.has_images and not known.bank.has_images):
                found[bank.fingerprint] = Reference(bank)
        if failed is not None and not usable:
            raise failed
    return found


def check_against_bank(run: Run, rows: pd.DataFrame, reference: Reference) -> Iterator[Problem]:
    """Every row against the bank's own row of the same fold, episode and way, in the order of the bank."""
    bank = reference.bank
    if run.bank.protocol_hash != bank.protocol.hash:
        yield "fold", f"expected rows under the bank's protocol {bank.protocol.name!r}, found another"
    objects = rows[rows["way"] > 0].sort_values([*EPISODE, "way"], ignore_index=True)
    try:
        expected = pd.concat([reference.rows(fold, run.shot) for fold in sorted(run.folds)], ignore_index=True)
    except BankError as error:
        yield "supports", str(error)
        return
    if len(expected) != len(objects):
        yield "episode", f"expected the bank's {len(expected)} rows of ways, found {len(objects)}"
        return
    same = True
    for name in expected.columns:
        wrong = objects[name] != expected[name]
        if wrong.any():
            same = False
            first = int(wrong.to_numpy().argmax())
            yield (
                name,
                f"expected the bank's {_short(expected[name].iloc[first])}, found {_short(objects[name].iloc[first])} "
                f"at {place(objects, wrong)}",
            )
    if same:
        yield from _pixels(objects, reference)


def _pixels(rows: pd.DataFrame, reference: Reference) -> Iterator[Problem]:
    """The pixels of every query, and where the bank holds label maps those of its object and those ignored."""
    queries = {query: reference.pixels(query) for query in rows["query"].unique()}
    found = {"the six counts": (rows[COUNTS].sum(axis=1), rows["query"].map(queries))}
    if reference.knows_areas:
        classes = {episode: tuple(found) for episode, found in rows.groupby(EPISODE)["class_id"]}
        ways = [classes[episode] for episode in rows[EPISODE].itertuples(index=False, name=None)]
        areas = [reference.areas(*row) for row in zip(rows["query"], ways, rows["way"], strict=True)]
        objects, ignored = zip(*areas, strict=True)
        found["tp + fn"] = (rows["tp"] + rows["fn"], pd.Series(objects))
        found["ignored_fg + ignored_bg"] = (rows["ignored_fg"] + rows["ignored_bg"], pd.Series(ignored))
    for name, (count, expected) in found.items():
        wrong = count != expected
        if wrong.any():
            first = int(wrong.to_numpy().argmax())
            yield (
                name,
                f"expected {int(expected.iloc[first])} px of query {rows['query'].iloc[first]!r}, "
                f"found {int(count.iloc[first])} at {place(rows, wrong)}",
            )


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
