"""A backbone cut into its blocks: what each computes, for methods that compare all of them (HSNet, DCAMA).

A map's name is "stride.number", such as "16.5", its number counted from 0 within the stride.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fssbench.backbones import Backbone, Step, blocks_by_timm, build_backbone, resnet, vgg

STRIDES = (4, 8, 16, 32)


def block_encoder(name: str) -> Backbone:
    """A backbone that gives what every block of stride 4 to 32 computes, before the block's last ReLU.

    ResNet: the residual sums of layers 1 to 4. VGG: the convolutions of blocks 3 to 5, and the fifth pool.
    EfficientNet-Lite, Swin and ConvNeXt (by timm), whose blocks end without activation: their outputs.
    """
    if name.startswith("resnet"):
        return _resnet_blocks(resnet(name))
    if name.startswith("vgg"):
        return _vgg_blocks(vgg(name))
    if name.startswith("timm:"):
        return blocks_by_timm(name)
    return _efficientnet_blocks(build_backbone(name, output_stride=32))


def levels(encoder: Backbone, strides: Iterable[int]) -> list[list[str]]:
    """The names of the maps of each stride, in network order."""
    return [[name for name in encoder.channels if name.startswith(f"{stride}.")] for stride in strides]


def _strides(names: Iterable[str]) -> dict[str, int]:
    return {name: int(name.partition(".")[0]) for name in names}


def _resnet_blocks(base: Backbone) -> Backbone:
    def run(layer: int, number: int, body: Any, x: Tensor) -> Tensor:
        x = body.maxpool(body.relu(body.bn1(body.conv1(x)))) if (layer, number) == (1, 0) else F.relu(x)
        block = getattr(body, f"layer{layer}")[number]
        out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
        residual: Tensor = block.bn3(block.conv3(out)) + (x if block.downsample is None else block.downsample(x))
        return residual

    steps: dict[str, Step] = {}
    channels = {}
    for layer, stride in enumerate(STRIDES, 1):
        for number in range(len(getattr(base.body, f"layer{layer}"))):
            steps[f"{stride}.{number}"] = partial(run, layer, number)
            channels[f"{stride}.{number}"] = base.channels[f"c{layer + 1}"]
    return base.recut(steps, channels, "blocks", _strides(channels))


def _vgg_blocks(base: Backbone) -> Backbone:
    features: Any = base.body.features
    pools = [index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    relus = [index for index, layer in enumerate(features) if isinstance(layer, nn.ReLU) and index > pools[1]]
    for index in relus:
        features[index].inplace = False  # what comes before them is kept

    def run(start: int, end: int | None, body: Any, x: Tensor) -> Tensor:
        out: Tensor = body.features[start:end](x)
        return F.max_pool2d(out, 2) if end is None else out

    strides = [4 if end < pools[2] else 8 if end < pools[3] else 16 for end in relus]
    names = [f"{stride}.{number % 3}" for number, stride in enumerate(strides)] + ["32.0"]
    steps: dict[str, Step] = {
        name: partial(run, start, end) for name, start, end in zip(names, [0, *relus], [*relus, None], strict=True)
    }
    channels = {name: 256 if name.startswith("4.") else 512 for name in names}
    return base.recut(steps, channels, "blocks", _strides(names))


def _efficientnet_blocks(base: Backbone) -> Backbone:
    def run(stage: int, number: int, body: Any, x: Tensor) -> Tensor:
        if (stage, number) == (1, 0):
            x = body.blocks[0](body.bn1(body.conv_stem(x)))
        out: Tensor = body.blocks[stage][number](x)
        return out

    body: Any = base.body
    steps: dict[str, Step] = {}
    channels = {}
    for stride, stages in zip(STRIDES, ((1,), (2,), (3, 4), (5, 6)), strict=True):
        blocks = [(stage, number) for stage in stages for number in range(len(body.blocks[stage]))]
        for position, (stage, number) in enumerate(blocks):
            steps[f"{stride}.{position}"] = partial(run, stage, number)
            channels[f"{stride}.{position}"] = body.blocks[stage][number].conv_pwl.out_channels
    return base.recut(steps, channels, "blocks", _strides(channels))
