"""Weights: named, found, of the right method and fold, and never random by accident."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_methods
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.backbones.by_timm import _weights_kind
from fssbench.checkpoints import Card, save_checkpoint
from fssbench.engine.build import MethodSpec, build_method
from fssbench.errors import CheckpointError, FssbenchError, MethodError
from fssbench.method import Features, MethodConfig
from fssbench.regime import Regime

NAME = "toy_methods:Toy"


def checkpoint(path: Path, fold: int | None = 0, **card: object) -> Path:
    """A checkpoint of Toy whose weights are all one, made with a scale of 3."""
    config = toy_methods.ToyConfig(scale=3.0)
    state = {name: torch.ones_like(value) for name, value in toy_methods.Toy(config).state_dict().items()}
    values = {
        "method": NAME,
        "backbone": "toy",
        "config": config.model_dump(),
        "regime": Regime(fold=fold),
        "source": "a test",
    } | card
    save_checkpoint(path, state, Card(**values))  # type: ignore[arg-type]
    return path


def test_a_checkpoint_brings_its_weights_and_its_settings(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "w.safetensors")
    method, entry = build_method(MethodSpec(NAME, weights=str(path)), 0)
    assert all((value == 1).all() for value in method.state_dict().values())
    assert method.config.scale == 3.0
    assert entry.kind == "checkpoint"
    assert len(entry.sha256) == 64
    changed, _ = build_method(MethodSpec(NAME, ("scale=5",), weights=str(path)), 0)
    assert changed.config.scale == 5.0


def test_one_path_names_a_checkpoint_a_fold(tmp_path: Path) -> None:
    for fold in (0, 1):
        checkpoint(tmp_path / f"f{fold}.safetensors", fold=fold)
    for fold in (0, 1):
        build_method(MethodSpec(NAME, weights=str(tmp_path / "f{fold}.safetensors")), fold)


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "w.safetensors", method="panet")
    with pytest.raises(CheckpointError, match="made for method 'panet'"):
        build_method(MethodSpec(NAME, weights=str(path)), 0)


def test_a_missing_checkpoint_is_an_error_and_no_random_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        build_method(MethodSpec(NAME, weights=str(tmp_path / "none.safetensors")), 0)


def test_a_method_that_needs_training_asks_for_weights_by_name() -> None:
    with pytest.raises(CheckpointError, match="PFENet has to be trained"):
        build_method(MethodSpec("pfenet"), 0)


def test_random_weights_repeat_with_their_seed() -> None:
    one, a = build_method(MethodSpec(NAME, weights="random", seed=4), 0)
    two, b = build_method(MethodSpec(NAME, weights="random", seed=4), 0)
    _, c = build_method(MethodSpec(NAME, weights="random", seed=5), 0)
    assert a.sha256 == b.sha256 != c.sha256
    assert all(torch.equal(x, y) for x, y in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_an_unknown_backbone_lists_those_there_are() -> None:
    with pytest.raises(FssbenchError, match="efficientnet_lite0"):
        build_method(MethodSpec("panet", backbone="resnet5", weights="random"), 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("size=100,100", "backbone=timm:test_vit"), r"multiples of 16, found 100 x 100.*size=96,96"),
        (("backbone=timm:test_vit",), r"multiples of 16, found 417 x 417.*size=416,416"),
    ],
)
def test_an_input_that_patches_do_not_divide_is_refused_before_anything_is_loaded(
    settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(MethodError, match=words):
        build_method(MethodSpec("panet", settings, weights="imagenet"), 0)


def test_a_method_of_native_sizes_says_that_patches_need_one_size() -> None:
    with pytest.raises(MethodError, match=r"own size.*multiple of 16"):
        build_method(MethodSpec("sgone", ("backbone=timm:test_vit",), weights="random"), 0)


class NoEncoder(nn.Module):
    """The pixels themselves."""

    def forward(self, images: Tensor) -> Features:
        return {"pixels": images}


class Weightless(toy_methods.Toy):
    """Nothing to learn, no backbone."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.encoder = NoEncoder()


def test_a_method_without_parameters_is_recorded_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_methods, "Weightless", Weightless, raising=False)
    for weights in (None, "imagenet", "random"):
        _, entry = build_method(MethodSpec("toy_methods:Weightless", weights=weights), 0)
        assert entry.kind == "none"


def test_weights_that_are_not_imagenets_are_called_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.sam.Sam.load_imagenet", lambda self: None)
    spec = MethodSpec("persam", ("backbone=sam_test",))
    assert build_method(spec, 0)[1].kind == "published"
    assert build_method(replace(spec, weights="random"), 0)[1].kind == "random"
    monkeypatch.setattr(Backbone, "load_imagenet", lambda self: None)
    small = ("size=160,160",)
    assert build_method(MethodSpec("prototype", small, "timm:test_vit"), 0)[1].kind == "imagenet"
    dinov2, clip = "timm:vit_small_patch14_dinov2.lvd142m", "timm:vit_base_patch16_clip_224.openai"
    assert [_weights_kind(name) for name in (dinov2, clip, "timm:swin_tiny_patch4_window7_224")] == [
        "published", "published", "imagenet",
    ]  # fmt: skip


class Unbuildable(toy_methods.Toy):
    def __init__(self, config: MethodConfig) -> None:
        raise ValueError("seven is not enough")


class Bare(toy_methods.Toy):
    def __init__(self, config: MethodConfig) -> None:
        nn.Module.__init__(self)
        self.layer = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("cls", "words"),
    [(Unbuildable, r"could not be built: ValueError: seven is not enough \(.*test_build\.py, line"),
     (Bare, "expected __init__ to set encoder and query_input")],
)  # fmt: skip
def test_a_method_that_cannot_be_built_is_one_message(monkeypatch: pytest.MonkeyPatch, cls: type, words: str) -> None:
    monkeypatch.setattr(toy_methods, cls.__name__, cls, raising=False)
    with pytest.raises(MethodError, match=words):
        build_method(MethodSpec(f"toy_methods:{cls.__name__}", weights="random"), 0)


def test_weights_are_drawn_without_touching_anybodys_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    build_method(MethodSpec("toy_methods:Toy", weights="random", seed=5), 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded
