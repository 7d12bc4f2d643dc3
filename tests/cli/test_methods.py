"""`fssbench methods` and `fssbench import-checkpoint`, as a user meets them."""

import json
from pathlib import Path

import pytest
import torch
from command_line import fssbench
from repository import PLUGINS
from torch import nn

from fssbench.checkpoints import open_checkpoint
from fssbench.files import sha256_file
from fssbench.regime import Regime
from fssbench.registry import BUILT_IN


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS)
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Conv2d(3, 2, 1).state_dict(), tmp_path / "authors.pth")


IMPORT = ("import-checkpoint", "tiny_plugin:Tiny", "authors.pth", "--fold", "1")


def test_every_built_in_method_is_listed_with_paper_and_venue() -> None:
    listed = {entry["name"]: entry for entry in json.loads(fssbench("methods", "--json").out)}
    assert set(listed) >= set(BUILT_IN)
    assert (listed["canet"]["venue"], listed["canet"]["year"], listed["canet"]["ways"]) == ("CVPR", 2019, 1)
    assert listed["rpmms"]["backbones"] == ["resnet50", "vgg16"]
    assert {entry["shots"] for entry in listed.values()} == {"any"}
    kinds = {name: listed[name]["type"] for name in ("panet", "persam", "nearest")}
    assert kinds == {"panet": "trained", "persam": "training-free", "nearest": "baseline"}


def test_the_list_is_readable_without_json() -> None:
    out = fssbench("methods").out
    assert "CVPR 2019" in out
    assert "Prototype Mixture Models for Few-Shot Semantic Segmentation" in out


def test_one_method_is_shown_with_settings_and_defaults() -> None:
    out = fssbench("methods", "canet").out
    assert "icoz69/CaNet" in out
    assert any(line.split()[:2] == ["refinements", "4"] for line in out.splitlines())
    entry = json.loads(fssbench("methods", "tiny_plugin:Tiny", "--json").out)
    assert entry["ways"] == "any"
    assert entry["settings"][1] == {"name": "width", "default": "2", "allowed": "a whole number", "description": ""}


def test_an_unknown_method_suggests_the_nearest() -> None:
    assert "did you mean 'canet'" in fssbench("methods", "caent", status=2).err


def test_an_import_writes_weights_and_card() -> None:
    told = ("--trained-on", "SBD", "--selected-on", "novel", "--source", "https://example.org/x.pth", "--json")
    printed = json.loads(fssbench(*IMPORT, "--out", "new/x.safetensors", *told).out)
    checkpoint = open_checkpoint(Path("new/x.safetensors"))
    card = checkpoint.card
    assert printed["card"] == card.model_dump(mode="json")
    assert card.sha256 == sha256_file(Path("authors.pth"))
    assert card.regime == Regime(source="authors", fold=1, image_list="SBD", selected_on="novel")
    assert (card.fold, card.source, card.config["width"]) == (1, "https://example.org/x.pth", 2)
    assert checkpoint.weights().keys() == {"encoder.weight", "encoder.bias"}


def test_an_import_has_a_telling_default_name_and_does_not_overwrite() -> None:
    target = Path("checkpoints/tiny_plugin-Tiny-one-layer-fold1.safetensors")
    fssbench(*IMPORT)
    before = target.read_bytes()
    assert "--force" in fssbench(*IMPORT, status=2).err
    assert target.read_bytes() == before
    fssbench(*IMPORT, "--force")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--set", "width=3"), "wrong shape"),
        (("--set", "wdith=3"), "did you mean 'width'"),
        (("--out", "x.pth"), "end in .safetensors"),
        (("--selected-on", "test"), "--selected-on: Input should be 'base', 'novel' or 'nothing', found 'test'"),
    ],
)
def test_a_wrong_option_writes_nothing(change: tuple[str, ...], message: str) -> None:
    assert message in fssbench(*IMPORT, *change, status=2).said
    assert not list(Path.cwd().rglob("*.safetensors"))


def test_a_missing_file_writes_nothing() -> None:
    done = fssbench("import-checkpoint", "tiny_plugin:Tiny", "absent.pth", "--fold", "0", status=2)
    assert "no checkpoint at absent.pth" in done.err
    assert not list(Path.cwd().rglob("*.safetensors"))
