"""A record's rows against the bank they claim to come from: the same episodes, images and numbers of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

from fssbench.records import COUNTS, Run
from fssbench.reports.audit_counts import EPISODE, place
from fssbench.reports.audit_run import Problem


@dataclass(frozen=True)
class Reference:
    """What an audit needs of a bank.

    `rows` has one row an episode and way, for the largest shot: fold, run, episode, group, way, class_id, query,
    supports; `pixels` gives height x width by image id; `protocol_hash` belongs to the bank's protocol.
    """

    fingerprint: str
    dataset: str
    protocol_hash: str
    folds: dict[int, list[int]]
    rows: pd.DataFrame = field(repr=False)
    pixels: dict[str, int] = field(repr=False)
    native: bool = True  # scored at the query's own resolution, so that its pixels can be counted


def check_against_bank(run: Run, rows: pd.DataFrame, bank: Reference) -> Iterator[Problem]:
    """Every row against the bank's own row of the same fold, run, episode and way."""
    if run.bank.protocol_hash != bank.protocol_hash:
        yield "protocol_hash", f"expected the bank's {bank.protocol_hash[:12]}, found {run.bank.protocol_hash[:12]}"
    for fold in run.folds:
        if sorted(run.bank.folds[fold]) != sorted(bank.folds.get(fold, [])):
            yield "class_id", f"expected the bank's classes of fold {fold}, {bank.folds.get(fold)}"
    expected = bank.rows[bank.rows["fold"].isin(run.folds)]
    if len(expected) != len(rows):
        yield "episode", f"expected the bank's {len(expected)} rows, found {len(rows)}"
        return
    key = [*EPISODE, "way"]
    ours = rows.sort_values(key, ignore_index=True)
    theirs = expected.sort_values(key, ignore_index=True)
    same = (ours[key].to_numpy() == theirs[key].to_numpy()).all(axis=1)
    if not same.all():
        yield "episode", f"not an episode of the bank: {place(ours, pd.Series(~same))}"
        return
    nested = theirs["supports"].str.split().str[: run.shot].str.join(" ")
    for name, column in {**{c: theirs[c] for c in ("group", "class_id", "query")}, "supports": nested}.items():
        wrong = ours[name] != column
        if wrong.any():
            first = int(wrong.to_numpy().argmax())
            yield name, f"expected {column.iloc[first]!s}, found {ours[name].iloc[first]!s} at {place(ours, wrong)}"
    if bank.native:
        yield from _pixels(ours, bank.pixels)


def _pixels(rows: pd.DataFrame, pixels: dict[str, int]) -> Iterator[Problem]:
    total = rows[COUNTS].sum(axis=1)
    expected = rows["query"].map(pixels)
    wrong = expected.notna() & (total != expected)
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        yield (
            "the six counts",
            f"expected the {int(expected.iloc[first])} pixels of query {rows['query'].iloc[first]!r}, "
            f"found {int(total.iloc[first])} at {place(rows, wrong)}",
        )
