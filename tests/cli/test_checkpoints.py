"""`fssbench checkpoint`, as someone meets it who was handed a file."""

import json
from pathlib import Path

import pytest
import torch
from repository import CASES

from fssbench.cli import main
from fssbench.parity.case import load_case


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.fixture
def training_state(tmp_path: Path) -> Path:
    state = load_case(CASES / "hsnet-vgg16-1shot-97-s11.npz").state()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / "best_model.pt"
    torch.save({"epoch": 12, "args": ["a", "b"], "state_dict": wrapped, "ema": wrapped}, path)
    return path


@pytest.mark.slow
def test_a_file_is_described_with_its_wrappers_and_the_method_that_it_fits(
    training_state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("checkpoint", str(training_state), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["beside"] == ["epoch = 12", "args (list of 2)"]
    assert [state["key"] for state in shown["state_dicts"]] == ["state_dict", "ema"]
    first = shown["state_dicts"][0]
    assert first["fits"] == ["hsnet (vgg16)"]
    assert first["removed"] == [f"'module.' from {first['entries']}"]
    assert call("checkpoint", str(training_state)) == 0
    assert "fits: hsnet (vgg16)" in capsys.readouterr().out


def test_our_own_checkpoint_shows_its_card(training_state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = training_state.with_name("ours.safetensors")
    options = ("--fold", "2", "--backbone", "vgg16", "--out", str(out))
    assert call("import-checkpoint", "hsnet", str(training_state), *options) == 0
    assert "not read: 'ema'" in " ".join(capsys.readouterr().err.split())
    assert call("checkpoint", str(out), "--json") == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert (card["method"], card["regime"]["fold"]) == ("hsnet", 2)
    assert any("'module.'" in note for note in card["notes"])


def test_a_file_that_is_no_checkpoint_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pth").write_text("<html>not found</html>")
    assert call("checkpoint", str(tmp_path / "x.pth")) == 2
    assert "cannot be read" in " ".join(capsys.readouterr().err.split())
