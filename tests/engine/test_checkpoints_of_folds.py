"""Every fold's checkpoint is looked at before the first episode: its method, its configuration, what it has seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
import toy_methods
from toy_runs import frames

from fssbench.checkpoints import Card, Checkpoint, save_checkpoint
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import Outcome, RunRequest, run_methods
from fssbench.errors import CheckpointError
from fssbench.records import exposures, read_run
from fssbench.regime import Regime
from fssbench.reports.entries.results import load_results
from fssbench.reports.tables.layouts import fold_tables

NAME = "toy_methods:Toy"


def checkpoint(path: Path, seed: int, regime: Regime, scale: float = 10.0) -> None:
    """Toy with random weights of a seed."""
    torch.manual_seed(seed)
    method = toy_methods.Toy(toy_methods.ToyConfig(scale=scale))
    card = Card(method=NAME, backbone="toy", config=method.config.model_dump(), regime=regime, source="a test")
    save_checkpoint(path, method.state_dict(), card, force=True)


def go(bank: Path, out: Path, listener, weights: Path, folds=None, allow: bool = False, shots=(1,)) -> Outcome:
    spec, settings = MethodSpec(NAME, weights=str(weights)), Settings(torch.device("cpu"))
    request = RunRequest([spec], bank, settings, shots, folds, out=out, allow_contaminated=allow)
    return run_methods(request, listener)[0]


def test_each_fold_runs_with_its_own_checkpoint(bank: Path, tmp_path: Path, listener) -> None:
    for fold in (0, 1):
        checkpoint(tmp_path / f"f{fold}.safetensors", fold, Regime(dataset="toy", fold=fold))
    together = frames([go(bank, tmp_path / "all", listener, tmp_path / "f{fold}.safetensors")])[0]
    for fold in (0, 1):
        alone = frames([go(bank, tmp_path / str(fold), listener, tmp_path / f"f{fold}.safetensors", [fold])])[0]
        of_fold = together[together["fold"] == fold].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_fold, alone)
    other = go(bank, tmp_path / "other", listener, tmp_path / "f0.safetensors", allow=True)
    assert not frames([other])[0].equals(together)  # the two checkpoints do differ


def test_a_checkpoint_is_loaded_once_for_all_numbers_of_shots(
    bank: Path, tmp_path: Path, listener, monkeypatch
) -> None:
    for fold in (0, 1):
        checkpoint(tmp_path / f"f{fold}.safetensors", fold, Regime(dataset="toy", fold=fold))
    loaded: list[str] = []
    weights = Checkpoint.weights
    monkeypatch.setattr(Checkpoint, "weights", lambda self: loaded.append(self.path.name) or weights(self))
    go(bank, tmp_path / "out", listener, tmp_path / "f{fold}.safetensors", shots=(1, 5))
    assert loaded == ["f0.safetensors", "f1.safetensors"]


def test_a_checkpoint_that_changes_during_a_run_fails_its_own_method_alone(
    bank: Path, tmp_path: Path, listener
) -> None:
    for fold in (0, 1):
        checkpoint(tmp_path / f"f{fold}.safetensors", fold, Regime(dataset="toy", fold=fold))

    class Replacing(type(listener)):  # type: ignore[misc]
        def advance(self, episodes: int) -> None:
            checkpoint(tmp_path / "f1.safetensors", 9, Regime(dataset="toy", fold=1))

    specs = [MethodSpec(NAME, weights=str(tmp_path / "f{fold}.safetensors")), MethodSpec(NAME, weights="random")]
    request = RunRequest(specs, bank, Settings(torch.device("cpu")), out=tmp_path / "out")
    changed, beside = run_methods(request, Replacing())
    assert changed.state == "failed" and "f1.safetensors has changed since this began" in changed.message
    assert beside.state == "finished"


@pytest.mark.parametrize(
    ("regime", "folds", "words"),
    [
        (Regime(dataset="toy", fold=0), None, "trained for fold 0, hence on the classes of fold 1"),
        (Regime(dataset="toy", classes={1: "red", 3: "blue"}), [0], "red"),
        (Regime(dataset="elsewhere", classes={9: "Grey"}), [1], "grey"),
    ],
)
def test_a_checkpoint_that_has_seen_a_tested_class_is_refused_before_any_episode(
    bank: Path, tmp_path: Path, listener, regime: Regime, folds, words: str
) -> None:
    checkpoint(tmp_path / "w.safetensors", 0, regime)
    with pytest.raises(CheckpointError, match=words):
        go(bank, tmp_path / "out", listener, tmp_path / "w.safetensors", folds)
    assert not (tmp_path / "out").exists()


def test_it_runs_if_the_user_says_so_and_the_record_names_the_classes(bank: Path, tmp_path: Path, listener) -> None:
    checkpoint(tmp_path / "w.safetensors", 0, Regime(dataset="toy", fold=0))
    outcome = go(bank, tmp_path / "out", listener, tmp_path / "w.safetensors", allow=True)
    run = read_run(outcome.folder)
    assert run.weights[0].contaminated == []
    assert run.weights[1].contaminated == ["blue", "grey"]


def test_checkpoints_that_are_configured_differently_make_no_one_record(bank: Path, tmp_path: Path, listener) -> None:
    for fold, scale in ((0, 10.0), (1, 11.0)):
        checkpoint(tmp_path / f"f{fold}.safetensors", 0, Regime(dataset="toy", fold=fold), scale)
    with pytest.raises(CheckpointError, match=r"f1\.safetensors: expected the configuration"):
        go(bank, tmp_path / "out", listener, tmp_path / "f{fold}.safetensors")


def test_a_missing_checkpoint_of_a_later_fold_is_found_at_once(bank: Path, tmp_path: Path, listener) -> None:
    checkpoint(tmp_path / "f0.safetensors", 0, Regime(dataset="toy", fold=0))
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*f1\.safetensors"):
        go(bank, tmp_path / "out", listener, tmp_path / "f{fold}.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "regime", [Regime(), Regime(fold=1), Regime(dataset="elsewhere"), Regime(dataset="elsewhere", fold=1)]
)
def test_what_is_not_known_is_said_as_not_known(bank: Path, tmp_path: Path, listener, regime: Regime) -> None:
    checkpoint(tmp_path / "w.safetensors", 0, regime)
    outcome = go(bank, tmp_path / "out", listener, tmp_path / "w.safetensors", [1])
    assert any("w.safetensors: not known whether it saw the classes of fold 1" in m for m in listener.messages)
    assert [seen.state for seen in exposures(read_run(outcome.folder)).values()] == ["unknown"]
    (table,) = fold_tables(load_results(outcome.folder))
    assert any("not known whether the checkpoint had seen the tested classes" in note for note in table.notes)


def test_what_is_known_to_be_new_needs_no_word(bank: Path, tmp_path: Path, listener) -> None:
    checkpoint(tmp_path / "w.safetensors", 0, Regime(dataset="toy", fold=1, classes={1: "red", 2: "green"}))
    outcome = go(bank, tmp_path / "out", listener, tmp_path / "w.safetensors", [1])
    assert not any("not known" in message for message in listener.messages)
    (table,) = fold_tables(load_results(outcome.folder))
    assert not any("not known" in note for note in table.notes)
