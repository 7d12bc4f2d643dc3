"""Winograd's 3x3 convolutions, against PyTorch's direct ones in double precision."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from methods import winograd
from methods.winograd import Conv3x3, as_conv3x3, conv3x3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width", "dilation"), [(24, 25, 1), (26, 27, 1), (31, 40, 1), (31, 39, 2)])
@torch.inference_mode()
def test_a_large_map_is_convolved_as_directly(
    height: int, width: int, dilation: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 130, height, width, generator=generator).contiguous(memory_format=layout)
    kernels, bias = torch.randn(128, 130, 3, 3, generator=generator), torch.randn(128, generator=generator)
    double = (tensor.double() for tensor in (x, kernels, bias))
    expected = F.conv2d(*double, padding=dilation, dilation=dilation)
    found = conv3x3(x, kernels, bias, dilation)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
    assert torch.equal(found[1:], conv3x3(x[1:], kernels, bias, dilation))  # whatever else is in the batch


def test_it_serves_evaluation_of_large_maps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Mock(wraps=winograd.winograd)
    monkeypatch.setattr(winograd, "winograd", fast)
    conv, x = Conv3x3(128, 128), torch.zeros(1, 128, 25, 25)
    conv(x)  # may be asked for gradients
    with torch.no_grad():
        conv.double()(x.double())
        conv.float()(x[:, :, :8])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            conv(x)
        conv3x3(x, conv.weight, dilation=6)  # 48 x 48 positions in tiles
        assert not fast.called
        conv(x)
    assert fast.called


def test_only_convolutions_that_keep_the_size_are_replaced_and_parameters_stay() -> None:
    plain = nn.Conv2d(4, 8, 3, padding=1)
    others = [
        nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(4, 8, 3, padding=2, dilation=2), nn.Conv2d(4, 8, 1),
        nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.Conv2d(4, 8, (3, 1), padding=1),
    ]  # fmt: skip
    network = nn.Sequential(plain, nn.Sequential(*others))
    before = dict(network.named_parameters())
    as_conv3x3(network)
    assert type(plain) is Conv3x3
    assert {type(layer) for layer in others} == {nn.Conv2d}
    assert all(before[name] is value for name, value in network.named_parameters())
