"""Invariant 5: rows do not depend on the company, and a method's failure is its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_methods
from toy_data import make_bank
from toy_runs import frames

from fssbench.banks.bank import Bank
from fssbench.engine.job import Job
from fssbench.records import COUNTS

BATCHES = {"encode_batch": 8, "head_batch": 6}  # on a CPU images are encoded one at a time otherwise; supports by 2


@pytest.mark.parametrize(
    ("methods", "shots", "options"),
    [
        (("ToyBatchy",), (1, 3, 5), {}),
        (("Toy", "ToyMaps", "ToyBatchy"), (5,), {}),
        (("ToyBatchy", "ToyPixels"), (1, 5), {"cache_bytes": 20_000}),
        (("ToyBatchy",), (5,), {"cache": False}),
    ],
)
def test_rows_are_the_same_in_any_company_though_each_batch_size_has_its_own_numbers(
    run: Any, tmp_path: Path, methods: tuple[str, ...], shots: tuple[int, ...], options: dict[str, Any]
) -> None:
    alone = frames(run("ToyBatchy", shots=(5,), out=tmp_path / "alone", **BATCHES))[0]
    outcomes = run(*methods, shots=shots, out=tmp_path / "together", **BATCHES, **options)
    (same,) = [o for o in outcomes if o.name.endswith("ToyBatchy") and o.shot == 5]
    pd.testing.assert_frame_equal(frames([same])[0], alone)


def test_images_of_their_own_size_are_encoded_one_at_a_time_and_segmented_with_their_like(
    run: Any, tmp_path: Path
) -> None:
    alone, many = (
        frames(run("ToyNative", shots=(1, 3), out=tmp_path / str(batch), encode_batch=batch, head_batch=6))
        for batch in (1, 8)
    )
    for a, b in zip(alone, many, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_rows_of_a_run_that_was_cut_off_are_those_of_a_whole_one(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    whole = frames(run("ToyBatchy", shots=(1, 5), out=tmp_path / "whole", **BATCHES))
    taken, steps = Job.take, []

    def interrupted(self: Job, fold: int, rows: Any) -> None:
        taken(self, fold, rows[:-1] if len(steps) == 4 else rows)  # the last step is written in part
        steps.append(fold)
        if len(steps) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Job, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("ToyBatchy", shots=(1, 5), out=tmp_path / "cut", **BATCHES)
    monkeypatch.undo()
    for a, b in zip(whole, frames(run("ToyBatchy", shots=(1, 5), out=tmp_path / "cut", **BATCHES)), strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_shots_that_were_drawn_apart_are_each_run_on_their_own_supports(
    run: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = make_bank(tmp_path / "apart.h5", 6, 1, (1, 3), {"nested": False})
    drawn = Bank.episodes

    def apart(self: Bank, fold: int, shot: int = 3) -> Any:
        """As authors do who draw anew: the one shot is not the first of the three."""
        three = drawn(self, fold, 3)
        return replace(three, support=three.support[:, :, 2:]) if shot == 1 else three

    monkeypatch.setattr(Bank, "episodes", apart)
    alone = [frames(run("Toy", bank=path, shots=(shot,), out=tmp_path / str(shot)))[0] for shot in (1, 3)]
    together = frames(run("Toy", bank=path, shots=(1, 3), out=tmp_path / "together"))
    for a, b in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(a, b)
    monkeypatch.setattr(Bank, "episodes", drawn)
    first = frames(run("Toy", bank=path, shots=(1,), out=tmp_path / "first"))[0]
    assert (first[COUNTS] != alone[0][COUNTS]).any(axis=None)  # the two draws do differ


@pytest.mark.parametrize(
    ("broken", "words"), [("ToyNoProject", "a bug in the layers"), ("ToyNoSupport", "a bug in the pooling")]
)
def test_a_method_that_fails_before_its_head_takes_none_of_its_encoders_others_with_it(
    run: Any, tmp_path: Path, broken: str, words: str
) -> None:
    getattr(toy_methods, broken).calls = 0
    before, failed, after = run("Toy", broken, "ToyMaps", out=tmp_path / "together")
    assert (before.state, failed.state, after.state) == ("finished", "failed", "finished")
    assert f"{failed.name} failed on fold 0, episode" in failed.message
    assert words in failed.message
    assert getattr(toy_methods, broken).calls <= 10  # it is not asked again
    pd.testing.assert_frame_equal(frames([before])[0], frames(run("Toy", out=tmp_path / "alone"))[0])
