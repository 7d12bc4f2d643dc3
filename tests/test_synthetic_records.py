"""The synthetic records that the other tests of this folder rely on."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def test_synthetic_counts_cover_every_pixel_of_the_query_and_meet_the_asked_miou(make_record, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    record = make_record(tmp_path / "r", miou=0.6, episodes=200)
    totals = record.episodes[["tp", "fp", "fn", "tn", "ignored_fg", "ignored_bg"]].sum(axis=1)
    assert np.unique(totals).tolist() == [10_000]
    assert abs(record.run.summary["miou"] - 0.6) < 0.02


def test_records_on_one_bank_share_episodes_and_those_on_another_do_not(make_record, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a = make_record(tmp_path / "a", method="panet", seed=1)
    b = make_record(tmp_path / "b", method="hsnet", seed=2)
    c = make_record(tmp_path / "c", bank_seed=5)
    identity = ["fold", "run", "episode", "class_id", "query", "supports"]
    assert a.episodes[identity].equals(b.episodes[identity])
    assert a.run.bank.fingerprint == b.run.bank.fingerprint != c.run.bank.fingerprint
    assert not a.episodes["tp"].equals(b.episodes["tp"])
    assert not (a.episodes.apply(lambda row: row["query"] in row["supports"].split("|"), axis=1)).any()
