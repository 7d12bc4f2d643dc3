"""Our recipe `paper` does to recipe weights what three optimiser steps of each authors' own loop did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fssbench.errors import DataError
from fssbench.parity import training
from fssbench.parity.case import Case, load_case
from fssbench.parity.compare import compare
from fssbench.parity.setup import Setup
from fssbench.training.recipe import Schedule

HERE = Path(__file__).parent / "train"
FILES = sorted(HERE.glob("*.npz"))
QUICK = "train_hsnet-resnet50-1shot-97-s11.npz"  # seconds, where VGG-16 takes a minute


def has_runner(file: Path) -> bool:
    try:
        training.find_setup(load_case(file))
    except DataError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_three_steps_do_what_the_authors_loop_did(file: Path) -> None:
    failed = [f"{r.tensor}: {r.deviation} > {r.tolerance}" for r in compare(load_case(file)) if not r.passed]
    assert not failed


def test_a_case_of_training_steps_without_runner_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = load_case(HERE / QUICK)
    with pytest.raises(DataError, match="no runner for its training steps"):
        list(compare(replace(case, meta=case.meta | {"method": "nobody's"})))


FAULTS = {
    "no weight decay": (lambda stage: replace(stage, optimiser=replace(stage.optimiser, weight_decay=0.0)), "groups"),
    "schedule one step late": (lambda stage: replace(stage, schedule=Schedule(power=0.9)), "lr, step 1"),
    "BatchNorm in eval": (lambda stage: replace(stage, running_statistics=True), "loss term 1, step 1"),
    "ten times the rate": (
        lambda stage: replace(stage, optimiser=replace(stage.optimiser, rate=10 * stage.optimiser.rate)),
        "lr, step 1",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_recipe_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PFENet's case, with BatchNorm on batch statistics, decay, momentum and a schedule."""
    change, first = FAULTS[fault]
    real = training.find_setup

    def wrong(case: Case) -> object:
        def setup(case: Case) -> Setup:
            made = real(case)(case)
            return replace(made, stage=change(made.stage))

        return setup

    monkeypatch.setattr(training, "find_setup", wrong)
    case = load_case(HERE / "train_pfenet-resnet50-1shot-97-s11.npz")
    failed = [row.tensor for row in compare(case) if not row.passed]
    assert failed
    assert failed[0].startswith(first)
