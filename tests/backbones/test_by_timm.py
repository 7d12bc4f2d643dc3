"""Any model of timm as a backbone, against timm's own forward pass."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from fssbench.backbones import Needs, blocks_by_timm, build_backbone
from fssbench.errors import CheckpointError, MethodError
from fssbench.registry import find_method
from fssbench.settings import parse_settings

PLAIN = ["test_vit", "test_vit2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"]


def pictures(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _quick_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """One uniform draw a tensor: timm's truncated normals take seconds a model."""

    def uniform(tensor: Tensor, *_: object, **__: object) -> Tensor:
        return tensor.uniform_(-0.05, 0.05)

    monkeypatch.setattr(nn.init, "trunc_normal_", uniform)
    for module in ("weight_init", "_fx"):
        if hasattr(getattr(timm.layers, module, None), "trunc_normal_"):
            monkeypatch.setattr(getattr(timm.layers, module), "trunc_normal_", uniform)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", [(8, 8), (5, 7)])
def test_patch_tokens_are_laid_out_on_their_grid_without_class_and_register_tokens(
    name: str, shape: tuple[int, int]
) -> None:
    """The last map is what the whole network's `forward_features` gives, position embedding resized by timm."""
    backbone = build_backbone(f"timm:{name}").eval()
    reference = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    reference.load_state_dict(backbone.body.state_dict())
    images = pictures(*(side * backbone.multiple for side in shape))
    with torch.inference_mode():
        found = backbone(images)["c5"]
        tokens = reference.forward_features(images)
    assert found.shape == (2, tokens.shape[2], *shape)
    first = tokens.shape[1] - shape[0] * shape[1]  # class and register tokens come first
    assert first == reference.num_prefix_tokens
    for y, x in ((0, 0), (1, 0), (2, 3), (shape[0] - 1, shape[1] - 1)):
        torch.testing.assert_close(found[:, :, y, x], tokens[:, first + y * shape[1] + x])


def test_a_transformer_is_cut_at_the_quarters_of_its_depth() -> None:
    backbone = build_backbone("timm:vit_small_patch16_dinov3").eval()
    with torch.inference_mode():
        maps = backbone(pictures(64, 96))
        whole: Tensor = backbone.body.forward_intermediates(  # type: ignore[operator]
            pictures(64, 96), norm=True, intermediates_only=True
        )
    assert list(maps) == ["c2", "c3", "c4", "c5"]
    for name, block in zip(maps, (2, 5, 8, 11), strict=True):
        torch.testing.assert_close(maps[name], whole[block])


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("test_convnext", {"c2": 4, "c3": 8, "c4": 16, "c5": 32}),
        ("swin_tiny_patch4_window7_224", {"c2": 4, "c3": 8, "c4": 16, "c5": 32}),
        ("test_resnet", {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}),
        ("test_efficientnet", {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}),
    ],
)
def test_stages_are_timms_own_maps(name: str, strides: dict[str, int]) -> None:
    backbone = build_backbone(f"timm:{name}", output_stride=32).eval()
    assert backbone.strides == strides
    options = {"strict_img_size": False} if name.startswith("swin") else {}
    reference = timm.create_model(name, features_only=True, **options).eval()
    reference.load_state_dict(backbone.body.state_dict())
    images = pictures(96, 128)
    with torch.inference_mode():
        found, expected = backbone(images), reference(images)
    for (stage, value), other in zip(found.items(), expected, strict=True):
        other = other.permute(0, 3, 1, 2) if name.startswith("swin") else other
        torch.testing.assert_close(value, other)
        assert value.shape[1:] == (backbone.channels[stage], 96 // strides[stage], 128 // strides[stage])


def test_a_stage_alone_gives_the_same_from_the_map_before_it() -> None:
    for name in ("test_convnext", "swin_tiny_patch4_window7_224"):
        backbone = build_backbone(f"timm:{name}", output_stride=32, needs=Needs(restarts=("c5",))).eval()
        with torch.inference_mode():
            maps = backbone(pictures(64, 96))
            torch.testing.assert_close(backbone.stage("c5", maps["c4"]), maps["c5"])


def test_the_maps_of_swins_blocks_are_those_of_its_own_pass() -> None:
    """DCAMA's maps: every block's output before patch merging and without a norm."""
    name = "swin_tiny_patch4_window7_224"
    backbone = blocks_by_timm(f"timm:{name}").eval()
    assert {key: backbone.strides[key] for key in ("4.1", "8.0", "16.5", "32.1")} == {
        "4.1": 4, "8.0": 8, "16.5": 16, "32.1": 32,
    }  # fmt: skip
    reference = timm.create_model(name, num_classes=0).eval()
    reference.norm = torch.nn.Identity()  # behind the last map: the blocks' backbone has none
    reference.load_state_dict(backbone.body.state_dict())
    caught: list[Tensor] = []
    for layer in reference.layers:
        for block in layer.blocks:
            block.register_forward_hook(lambda _, __, out: caught.append(out))
    images = pictures(224, 224)
    with torch.inference_mode():
        found = backbone(images)
        reference(images)
    assert len(found) == len(caught) == 12
    for value, other in zip(found.values(), caught, strict=True):
        assert torch.equal(value, other.permute(0, 3, 1, 2))


def test_blocks_of_other_strides_than_asked_for_are_passed_through_and_not_kept() -> None:
    name = "timm:test_convnext"
    wide, narrow = blocks_by_timm(name).eval(), blocks_by_timm(name, (8, 16)).eval()
    narrow.body.load_state_dict(wide.body.state_dict())
    with torch.inference_mode():
        every, some = wide(pictures(64, 64)), narrow(pictures(64, 64))
    assert {name.partition(".")[0] for name in some} == {"8", "16"}
    assert all(torch.equal(value, every[key]) for key, value in some.items())


def test_fewer_stages_build_fewer_layers() -> None:
    whole = build_backbone("timm:test_convnext")
    part = build_backbone("timm:test_convnext", stages=4)
    assert list(part.channels) == ["c2", "c3", "c4"]
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


def test_sides_that_patches_do_not_divide_are_refused_with_the_nearest_that_they_do() -> None:
    backbone = build_backbone("timm:vit_small_patch14_reg4_dinov2").eval()
    with pytest.raises(MethodError, match=r"multiples of 14, found 417 x 417.*--set size=420,420"):
        backbone(pictures(417, 417))


def test_a_network_of_one_input_size_says_which() -> None:
    backbone = build_backbone("timm:levit_128s").eval()
    assert backbone(pictures(224, 224))["c5"].shape[0] == 2
    with pytest.raises(MethodError, match=r"one size: expected 224,224, found 96,128"):
        backbone(pictures(96, 128))


@pytest.mark.parametrize(
    ("method", "backbone", "words"),
    [
        ("pfenet", "test_vit", "c5 run again on a changed map"),
        ("hsnet", "test_vit", "strides 4, 8, 16, 32"),
        ("canet", "swin_tiny_patch4_window7_224", "c3 and c4 at one stride"),
        ("fss1000", "test_convnext", "the maps c1, c2, c3, c4, c5"),
        ("oslsm", "test_vit", "c5 at stride"),
    ],
)
def test_a_method_that_needs_other_maps_refuses_before_a_weight_is_drawn_or_loaded(
    method: str, backbone: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    create = timm.create_model

    def watched(name: str, **options: object) -> nn.Module:
        net: nn.Module = create(name, **options)
        built.extend(p.device.type for p in net.parameters())
        return net

    monkeypatch.setattr(timm, "create_model", watched)
    cls = find_method(method)
    config = parse_settings(cls.Config, [f"backbone=timm:{backbone}"])
    with pytest.raises(MethodError, match=words) as caught:
        cls(config)
    assert f"timm:{backbone}" in str(caught.value)
    assert "--backbone" in str(caught.value)
    assert set(built) <= {"meta"}


def test_a_tag_chooses_the_weights_and_one_that_has_none_is_a_message_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
    with pytest.raises(CheckpointError, match=r"timm:test_resnet.r160_in1k.*--weights random"):
        build_backbone("timm:test_resnet.r160_in1k").load_imagenet()


def test_an_unknown_timm_model_is_told_the_nearest() -> None:
    with pytest.raises(MethodError, match="did you mean 'vit_small_patch14_dinov2'"):
        build_backbone("timm:vit_small_patch14_dino2")
