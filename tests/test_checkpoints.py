"""Our checkpoints and the authors': round trips, and every way a file can be wrong."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from repository import CASES, PLUGINS
from torch import Tensor, nn

from fssbench.checkpoints import (
    Card,
    import_official,
    open_checkpoint,
    read_card,
    restore,
    save_checkpoint,
)
from fssbench.errors import CheckpointError, MethodError
from fssbench.files import sha256_file
from fssbench.method import build_episodes
from fssbench.parity.case import load_case
from fssbench.regime import Regime

TINY = "tiny_plugin:Tiny"
FOLD0 = Regime(fold=0)
CARD = Card(
    method="canet",
    backbone="resnet50",
    config={"size": [321, 321]},
    regime=Regime(fold=2),
    source="a test",
    sha256="ab",
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS)


def official(width: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(nn.Conv2d(3, width, 1).state_dict())


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_weights_and_card_come_back_as_they_were(tmp_path: Path) -> None:
    state = {"a": torch.randn(2, 3), "b": torch.arange(4), "c": torch.randn(4, 6).T}
    save_checkpoint(tmp_path / "x.safetensors", state, CARD)
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    loaded = checkpoint.weights()
    assert (checkpoint.card, checkpoint.sha256) == (CARD, sha256_file(checkpoint.path))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_equal_weights_and_cards_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_checkpoint(tmp_path / f"{name}.safetensors", {"a": torch.ones(3), "b": torch.zeros(2)}, CARD)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_a_checkpoint_is_overwritten_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, CARD)
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(path, {"a": torch.ones(1)}, CARD)
    assert open_checkpoint(path).weights()["a"].item() == 0
    save_checkpoint(path, {"a": torch.ones(1)}, CARD, force=True)
    assert open_checkpoint(path).weights()["a"].item() == 1


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, CARD)
    before = path.read_bytes()

    def full_disk(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"a": torch.ones(1)}, CARD, force=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*safetensors*")] == ["x.safetensors"]


def test_files_that_are_not_our_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        open_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="import-checkpoint"):
        open_checkpoint(saved(tmp_path / "authors.pth", official()))
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="has no card"):
        open_checkpoint(tmp_path / "foreign.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "bad.safetensors", {"fssbench": json.dumps({})})
    with pytest.raises(CheckpointError, match="method: Field required"):
        read_card(tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path)  # a folder


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: renewed(path)])
def test_a_file_that_changed_since_it_was_found_gives_no_weights(tmp_path: Path, change) -> None:
    save_checkpoint(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, CARD)
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    change(checkpoint.path)
    with pytest.raises(CheckpointError, match=r"has changed since this began: expected SHA-256 .* Begin again"):
        checkpoint.weights()


def renewed(path: Path) -> None:
    save_checkpoint(path, {"a": torch.ones(1)}, CARD, force=True)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1000)}, CARD)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_the_authors_weights_are_found_however_they_were_saved(tmp_path: Path, wrap: object) -> None:
    path = saved(tmp_path / "x.pth", wrap(official()))  # type: ignore[operator]
    state, card = import_official(TINY, path, Regime(fold=1))
    assert torch.equal(state["encoder.weight"], official()["weight"])
    assert (card.fold, card.backbone, card.sha256) == (1, "one-layer", sha256_file(path))


def test_a_missing_file_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        import_official(TINY, tmp_path / "absent.pth", FOLD0)


def test_every_key_must_have_its_place(tmp_path: Path) -> None:
    state = official()
    with pytest.raises(CheckpointError, match=r"not known: encoder\.extra"):
        import_official(TINY, saved(tmp_path / "a.pth", {**state, "extra": torch.zeros(1)}), FOLD0)
    with pytest.raises(CheckpointError, match=r"missing: encoder\.bias"):
        import_official(TINY, saved(tmp_path / "b.pth", {"weight": state["weight"]}), FOLD0)
    with pytest.raises(CheckpointError, match=r"wrong shape: encoder\.bias \(expected \(2,\), found \(5,\)\)"):
        import_official(TINY, saved(tmp_path / "c.pth", official(5)), FOLD0)
    named = {**state, "fc.weight": torch.zeros(1)}  # the converter names it as unused
    assert import_official(TINY, saved(tmp_path / "d.pth", named), FOLD0)[0].keys() == {
        "encoder.weight",
        "encoder.bias",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = {**official(), "bias": torch.tensor([0.0, value])}
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights, first in encoder\.bias"):
        import_official(TINY, saved(tmp_path / "x.pth", state), FOLD0)


def test_a_method_comes_back_as_its_card_configures_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(
        path, *import_official(TINY, saved(tmp_path / "x.pth", official(5)), Regime(fold=3), settings=("width=5",))
    )
    checkpoint = open_checkpoint(path)
    method, card = restore(checkpoint), checkpoint.card
    assert (card.config, card.fold) == ({"backbone": "one-layer", "width": 5}, 3)
    assert not method.training
    assert torch.equal(method.state_dict()["encoder.weight"], official(5)["weight"])
    with pytest.raises(CheckpointError, match="wrong shape"):
        restore(checkpoint, ("width=2",))
    with pytest.raises(MethodError, match="unknown setting"):
        restore(checkpoint, ("depth=2",))


def test_an_imported_checkpoint_gives_what_its_authors_code_gave(tmp_path: Path) -> None:
    case = load_case(CASES / "canet-resnet50-1shot-113-s11.npz")
    published = {"epoch": 7, "state_dict": {f"module.{name}": value for name, value in case.state().items()}}
    path = saved(tmp_path / "canet.pth", published)
    save_checkpoint(tmp_path / "canet.safetensors", *import_official("canet", path, FOLD0, settings=("refinements=0",)))
    method = restore(open_checkpoint(tmp_path / "canet.safetensors"))
    support, label = case.image("support0")[None, None, None], case.mask("support0_mask")[None, None, None]
    with torch.no_grad():
        logits = method.segment(build_episodes(method, case.image("query0")[None], support, label))
    torch.testing.assert_close(logits, torch.from_numpy(case.expected["logits_refine0"]), atol=1e-4, rtol=0)


def test_a_checkpoint_of_another_backbone_is_refused_by_both_names(tmp_path: Path) -> None:
    card = Card(method=TINY, backbone="one-layer", config={"backbone": "one-layer"}, regime=FOLD0, source="a test")
    state = {f"encoder.{name}": value for name, value in official().items()}
    save_checkpoint(tmp_path / "x.safetensors", state, card)
    with pytest.raises(CheckpointError, match="trained on the backbone one-layer, asked for is two-layers"):
        restore(open_checkpoint(tmp_path / "x.safetensors"), ("backbone=two-layers",))
