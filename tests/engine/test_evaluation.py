"""A method object evaluated in this process: the numbers of a run, and nothing changed about the method."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_methods import ToyNaN
from toy_runs import frames

from fssbench.banks.bank import open_bank
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluation import evaluate_method
from fssbench.errors import MethodError
from fssbench.records import read_run


@pytest.mark.parametrize("ways", [1, 2])
def test_a_method_object_gets_the_rows_and_the_summary_of_a_run(run, bank: Path, two_way_bank: Path, ways: int) -> None:
    path = bank if ways == 1 else two_way_bank
    (outcome,) = run("Toy", bank=path, shots=(3,))
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    with open_bank(path) as opened:
        found = evaluate_method(method, opened, 3)
    pd.testing.assert_frame_equal(found.episodes, frames([outcome])[0])
    assert found.summary == read_run(outcome.folder).summary


def test_fp32_is_fp32_within_a_callers_autocast(bank: Path) -> None:
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    with open_bank(bank) as opened:
        plain = evaluate_method(method, opened, folds=[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            within = evaluate_method(method, opened, folds=[0])
    pd.testing.assert_frame_equal(within.episodes, plain.episodes)


def test_a_method_in_training_stays_there_and_can_still_be_trained(bank: Path) -> None:
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    method.train()
    with open_bank(bank) as opened:
        found = evaluate_method(method, opened, folds=[1])
    assert sorted(found.summary["folds"]) == ["1"]
    assert method.training
    images = torch.rand(1, 3, 32, 32)
    method.encode(images)["c1"].sum().backward()
    assert all(parameter.grad is not None for parameter in method.encoder.parameters())


def test_a_method_that_fails_raises(bank: Path) -> None:
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    method.__class__ = ToyNaN
    with open_bank(bank) as opened, pytest.raises(MethodError, match="not finite"):
        evaluate_method(method, opened)
