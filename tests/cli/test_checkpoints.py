"""`fssbench checkpoint`, as someone meets it who was handed a file."""

import json
from pathlib import Path

import pytest
import torch
from command_line import fssbench
from repository import CASES

from fssbench.parity.case import load_case


@pytest.fixture
def training_state(tmp_path: Path) -> Path:
    state = load_case(CASES / "hsnet-vgg16-1shot-97-s11.npz").state()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / "best_model.pt"
    torch.save({"epoch": 12, "args": ["a", "b"], "state_dict": wrapped, "ema": wrapped}, path)
    return path


@pytest.mark.slow
def test_a_file_is_described_with_its_wrappers_and_the_method_that_it_fits(training_state: Path) -> None:
    shown = json.loads(fssbench("checkpoint", training_state, "--json").out)
    assert shown["beside"] == ["epoch = 12", "args (list of 2)"]
    assert [state["key"] for state in shown["state_dicts"]] == ["state_dict", "ema"]
    first = shown["state_dicts"][0]
    assert first["fits"] == ["hsnet (vgg16)"]
    assert first["removed"] == [f"'module.' from {first['entries']}"]
    assert "fits: hsnet (vgg16)" in fssbench("checkpoint", training_state).out


def test_our_own_checkpoint_shows_its_card(training_state: Path) -> None:
    out = training_state.with_name("ours.safetensors")
    options = ("--fold", "2", "--backbone", "vgg16", "--out", str(out))
    assert "not read: 'ema'" in fssbench("import-checkpoint", "hsnet", training_state, *options).said
    card = json.loads(fssbench("checkpoint", out, "--json").out)["card"]
    assert (card["method"], card["regime"]["fold"]) == ("hsnet", 2)
    assert any("'module.'" in note for note in card["notes"])


def test_a_file_that_is_no_checkpoint_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("<html>not found</html>")
    assert "cannot be read" in fssbench("checkpoint", tmp_path / "x.pth", status=2).said
