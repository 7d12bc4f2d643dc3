"""State dicts as people bring them: wrapped by other tools, beside others, old, quantised, or no state dict at all."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from repository import CASES
from torch import Tensor, nn

from fssbench.checkpoints import fitting
from fssbench.errors import CheckpointError
from fssbench.parity.case import load_case
from fssbench.state_dicts import read_state_dict


def official() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).state_dict())


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def lightning(net: nn.Module) -> dict[str, Tensor]:
    return {f"model.{name}": value for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("wrap", "removed"),
    [
        (lambda net: nn.DataParallel(net).state_dict(), ["'module.'"]),
        (lambda net: nn.DataParallel(nn.DataParallel(net)).state_dict(), ["'module.'"]),
        (lambda net: torch.compile(net).state_dict(), ["'_orig_mod.'"]),
        (lambda net: nn.DataParallel(torch.compile(net)).state_dict(), ["'module.'", "'_orig_mod.'"]),
        (lambda net: torch.compile(nn.DataParallel(net)).state_dict(), ["'module.'", "'_orig_mod.'"]),
        (lightning, ["'model.'"]),
        (lambda net: lightning(torch.compile(net)), ["'_orig_mod.'", "'model.'"]),
    ],
)
def test_names_lose_what_wrappers_of_torch_and_lightning_added_and_it_is_said(
    tmp_path: Path, wrap: Callable[[nn.Module], Mapping[str, Tensor]], removed: list[str]
) -> None:
    net = Net()
    found = read_state_dict(saved(tmp_path / "x.pth", {"state_dict": dict(wrap(net))}))
    assert found.tensors.keys() == net.state_dict().keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in net.state_dict().items())
    for prefix in removed:
        assert any(prefix in note for note in found.notes), found.notes


def test_a_compiled_part_of_a_network_loses_its_prefix_too(tmp_path: Path) -> None:
    net = Net()
    names = net.state_dict().keys()
    net.body = torch.compile(net.body)  # type: ignore[assignment]
    assert read_state_dict(saved(tmp_path / "x.pth", net.state_dict())).tensors.keys() == names


def test_a_network_with_a_part_called_model_keeps_that_name(tmp_path: Path) -> None:
    state = {"model.a": torch.zeros(1), "head.a": torch.zeros(1)}
    found = read_state_dict(saved(tmp_path / "x.pth", state))
    assert (found.tensors.keys(), found.notes) == (state.keys(), [])


def test_an_averaged_copy_is_named_and_taken_only_by_key(tmp_path: Path) -> None:
    plain, averaged = official(), {name: value + 1 for name, value in official().items()}
    path = saved(tmp_path / "x.pth", {"state_dict_ema": averaged, "state_dict": plain, "epoch": 3})
    found = read_state_dict(path)
    assert torch.equal(found.tensors["0.weight"], plain["0.weight"])
    assert any("'state_dict_ema'" in note and "--key" in note for note in found.notes)
    chosen = read_state_dict(path, "state_dict_ema")
    assert torch.equal(chosen.tensors["0.weight"], averaged["0.weight"])
    assert any("'state_dict'" in note for note in chosen.notes)
    with pytest.raises(CheckpointError, match="did you mean 'state_dict_ema'"):
        read_state_dict(path, "state_dict_em")


def test_of_several_state_dicts_none_is_guessed(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"encoder": official(), "decoder": official()})
    with pytest.raises(CheckpointError, match=r"several state dicts: 'encoder', 'decoder'.*--key"):
        read_state_dict(path)
    assert read_state_dict(path, "decoder").key == "decoder"


def test_weights_of_old_torch_get_the_entries_it_did_not_write(tmp_path: Path) -> None:
    state = official()
    del state["1.num_batches_tracked"]
    found = read_state_dict(saved(tmp_path / "x.pth", state))
    assert found.tensors["1.num_batches_tracked"].item() == 0
    assert any("num_batches_tracked" in note for note in found.notes)
    nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).load_state_dict(found.tensors)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32])
def test_quantised_weights_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    state = {**official(), "0.weight": torch.ones(2, 3, 1, 1, dtype=kind)}
    with pytest.raises(CheckpointError, match=r"whole numbers \(torch\.\w+ in 0\.weight\)"):
        read_state_dict(saved(tmp_path / "x.pth", state))


def test_a_safetensors_file_without_a_card_is_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(official(), tmp_path / "x.safetensors")
    assert read_state_dict(tmp_path / "x.safetensors").tensors.keys() == official().keys()


@pytest.mark.parametrize(
    ("case", "fits"),
    [
        ("hsnet-vgg16-1shot-97-s11", [("hsnet", "vgg16")]),
        ("pfenet-resnet50-1shot-97-s11", [("pfenet", "resnet50")]),
        ("fss1000-vgg16bn-1shot-96-s11", [("fss1000", "vgg16_bn")]),
    ],
)
def test_the_method_and_backbone_of_an_authors_file_are_found(case: str, fits: list[tuple[str, str]]) -> None:
    assert fitting(load_case(CASES / f"{case}.npz").state()) == fits


def test_an_authors_file_with_one_entry_more_is_nobodys() -> None:
    state = load_case(CASES / "hsnet-vgg16-1shot-97-s11.npz").state()
    assert fitting({**state, "extra": torch.zeros(1)}) == []


def test_an_old_style_file_is_read(tmp_path: Path) -> None:
    torch.save(official(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "old.pth").tensors.keys() == official().keys()


class Payload:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_an_authors_file_is_never_run(tmp_path: Path, new_format: bool) -> None:
    trap = tmp_path / "trap"
    content = {"state_dict": official(), "args": Payload(trap)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=r"needs .* runs no code from a file"):
        read_state_dict(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content["args"]))
    with pytest.raises(CheckpointError):
        read_state_dict(tmp_path / "evil.pkl")
    assert not trap.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>not found</html>", b"\x80\x02", b"PK\x03\x04junk", b"\0" * 99]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_state_dict(tmp_path / "x.pth")


def test_a_download_cut_off_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"state_dict": {"a": torch.zeros(5000)}})
    whole = path.read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match="cut off"):
            read_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [{"epoch": 3, "lr": 0.1}, [torch.zeros(1)], {}, {"optimizer": {"state": {"a": torch.zeros(1)}}}],
)
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state_dict(saved(tmp_path / "x.pth", content))
