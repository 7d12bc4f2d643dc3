"""Every block's map is what the library's own network computes there."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import vgg

from methods.block_encoder import block_encoder, levels


def captured(network: nn.Module, modules: list[nn.Module], images: Tensor) -> list[Tensor]:
    """What `modules` output while the library's own network runs."""
    seen: list[Tensor] = []
    for module in modules:
        module.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    with torch.no_grad():
        network(images)
    return seen


def test_resnet_gives_every_residual_sum_before_its_relu() -> None:
    torch.manual_seed(0)
    encoder = block_encoder("resnet50").eval()
    theirs = torchvision.models.resnet50(weights=None).eval()
    theirs.load_state_dict(theirs.state_dict() | encoder.body.state_dict())
    images = torch.randn(1, 3, 65, 49)
    blocks = [block for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4) for block in layer]
    after = captured(theirs, blocks, images)
    with torch.no_grad():
        maps = encoder(images)
    counts = {4: 3, 8: 4, 16: 6, 32: 3}
    assert list(maps) == [f"{stride}.{i}" for stride, count in counts.items() for i in range(count)]
    for ours, expected in zip(maps.values(), after, strict=True):
        torch.testing.assert_close(ours.relu(), expected)
        assert ours.min() < 0


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg_gives_what_enters_the_relus_of_blocks_3_to_5_and_the_last_pool(name: str) -> None:
    torch.manual_seed(0)
    encoder = block_encoder(name).eval()
    theirs = vgg.make_layers(vgg.cfgs["D"], batch_norm=name == "vgg16_bn").eval()
    theirs.load_state_dict({k.removeprefix("features."): v for k, v in encoder.body.state_dict().items()})
    before_relu = [theirs[index - 1] for index, layer in enumerate(theirs) if isinstance(layer, nn.ReLU)][-9:]
    expected = captured(theirs, [*before_relu, theirs[-1]], torch.ones(1, 3, 72, 50))
    with torch.no_grad():
        maps = encoder(torch.ones(1, 3, 72, 50))
    assert list(maps) == ["4.0", "4.1", "4.2", "8.0", "8.1", "8.2", "16.0", "16.1", "16.2", "32.0"]
    for ours, wanted in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_efficientnet_gives_every_block_from_stride_4_on() -> None:
    encoder = block_encoder("efficientnet_lite0").eval()
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    theirs.load_state_dict(theirs.state_dict() | encoder.body.state_dict())
    images = torch.randn(1, 3, 64, 96)
    expected = captured(theirs, [block for stage in theirs.blocks[1:] for block in stage], images)
    with torch.no_grad():
        maps = encoder(images)
    for (name, ours), wanted in zip(maps.items(), expected, strict=True):
        torch.testing.assert_close(ours, wanted)
        assert ours.shape[1:] == (encoder.channels[name], 64 // int(name.split(".")[0]), 96 // int(name.split(".")[0]))


def test_swin_gives_every_block_of_timms_network() -> None:
    encoder = block_encoder("timm:swin_tiny_patch4_window7_224").eval()
    theirs = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False).eval()
    theirs.load_state_dict(theirs.state_dict() | encoder.body.state_dict())
    images = torch.randn(1, 3, 224, 224)
    expected = captured(theirs, [block for layer in theirs.layers for block in layer.blocks], images)
    with torch.no_grad():
        maps = encoder(images)
    assert [len(level) for level in levels(encoder, (4, 8, 16, 32))] == [2, 2, 6, 2]
    for ours, wanted in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(ours, wanted.permute(0, 3, 1, 2))
