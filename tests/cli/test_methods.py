"""`fssbench methods` and `fssbench import-checkpoint`, as a user meets them."""

import json
from pathlib import Path

import pytest
import torch
from repository import PLUGINS
from torch import nn

from fssbench.checkpoints import load_checkpoint
from fssbench.cli import main
from fssbench.files import sha256_file
from fssbench.regime import Regime
from fssbench.registry import BUILT_IN


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS)
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Conv2d(3, 2, 1).state_dict(), tmp_path / "authors.pth")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


IMPORT = ("import-checkpoint", "tiny_plugin:Tiny", "authors.pth", "--fold", "1")


def test_every_built_in_method_is_listed_with_paper_and_venue(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("methods", "--json") == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) >= set(BUILT_IN)
    assert (listed["canet"]["venue"], listed["canet"]["year"], listed["canet"]["ways"]) == ("CVPR", 2019, 1)
    assert listed["rpmms"]["backbones"] == ["resnet50", "vgg16"]
    assert {entry["shots"] for entry in listed.values()} == {"any"}
    kinds = {name: listed[name]["type"] for name in ("panet", "persam", "nearest")}
    assert kinds == {"panet": "trained", "persam": "training-free", "nearest": "baseline"}


def test_the_list_is_readable_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("methods") == 0
    out = capsys.readouterr().out
    assert "CVPR 2019" in out
    assert "Prototype Mixture Models for Few-Shot Semantic Segmentation" in out


def test_one_method_is_shown_with_settings_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("methods", "canet") == 0
    out = capsys.readouterr().out
    assert "icoz69/CaNet" in out
    assert any(line.split()[:2] == ["refinements", "4"] for line in out.splitlines())
    assert call("methods", "tiny_plugin:Tiny", "--json") == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["ways"] == "any"
    assert entry["settings"][1] == {"name": "width", "default": "2", "allowed": "a whole number", "description": ""}


def test_an_unknown_method_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("methods", "caent") == 2
    assert "did you mean 'canet'" in capsys.readouterr().err


def test_an_import_writes_weights_and_card(capsys: pytest.CaptureFixture[str]) -> None:
    told = ("--trained-on", "SBD", "--selected-on", "novel", "--source", "https://example.org/x.pth", "--json")
    assert call(*IMPORT, "--out", "new/x.safetensors", *told) == 0
    printed = json.loads(capsys.readouterr().out)
    state, card = load_checkpoint(Path("new/x.safetensors"))
    assert printed["card"] == card.model_dump(mode="json")
    assert card.sha256 == sha256_file(Path("authors.pth"))
    assert card.regime == Regime(source="authors", fold=1, image_list="SBD", selected_on="novel")
    assert (card.fold, card.source, card.config["width"]) == (1, "https://example.org/x.pth", 2)
    assert state.keys() == {"encoder.weight", "encoder.bias"}


def test_an_import_has_a_telling_default_name_and_does_not_overwrite(capsys: pytest.CaptureFixture[str]) -> None:
    target = Path("checkpoints/tiny_plugin-Tiny-one-layer-fold1.safetensors")
    assert call(*IMPORT) == 0
    before = target.read_bytes()
    assert call(*IMPORT) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert call(*IMPORT, "--force") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--set", "width=3"), "wrong shape"),
        (("--set", "wdith=3"), "did you mean 'width'"),
        (("--out", "x.pth"), "end in .safetensors"),
        (("--selected-on", "test"), "--selected-on: Input should be 'base', 'novel' or 'nothing', found 'test'"),
    ],
)
def test_a_wrong_option_writes_nothing(
    change: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*IMPORT, *change) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(Path.cwd().rglob("*.safetensors"))


def test_a_missing_file_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("import-checkpoint", "tiny_plugin:Tiny", "absent.pth", "--fold", "0") == 2
    assert "no checkpoint at absent.pth" in capsys.readouterr().err
    assert not list(Path.cwd().rglob("*.safetensors"))
