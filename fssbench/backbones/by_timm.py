"""Any model of timm as a backbone: feature maps of convolutional and window networks, patch tokens of transformers.

Maps are named by depth, the last one `c5`: a network of four stages gives `c2`..`c5`, whatever their strides. A plain
transformer is cut at the quarters of its depth; its tokens are laid out on the grid of patches, class and register
tokens left out, the final norm applied to each map (as DINOv2's `get_intermediate_layers` does), and its position
embedding is resized to the grid by timm. Sides that patches do not divide are refused, never cut or padded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.layers import PatchEmbed  # type: ignore[attr-defined]
from timm.models import FeatureListNet
from torch import Tensor, nn

from fssbench.backbones.base import Backbone, Needs, Step
from fssbench.errors import CheckpointError, MethodError, unknown_name
from fssbench.method import Features

PREFIX = "timm:"
# How a model is told that images come in any size: each of timm's families has its own word, or none.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class WholeBackbone(Backbone):
    """A network whose stages hand on more than their maps (class tokens): they run together or not at all.

    `read` gives the first `count` maps of the network.
    """

    restarts = False

    def __init__(self, *args: Any, read: Callable[[Any, Tensor, int], list[Tensor]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._read = read

    def forward(self, images: Tensor) -> Features:
        """B x 3 x H x W -> {"c2": B x C x h x w, ...}."""
        self.check_size((images.shape[-2], images.shape[-1]))
        names = list(self.strides)
        count = names.index(self.last) + 1 if self.last else len(names)
        return dict(zip(names[:count], self._read(self.body, images, count), strict=True))


def stages(name: str, output_stride: int, count: int, needs: Needs) -> Backbone:
    """`timm:NAME` cut into stages, the first `count` of five, dilated to `output_stride` where timm can."""
    build = partial(_tokens, name, count) if _depth(name) else partial(_pyramid, name, output_stride, count)
    with torch.device("meta"):
        trial = build()
        trial.check_needs(needs)
        only = _only_size(trial)
    backbone = build()
    backbone.only_size, backbone.weights_kind = only, _weights_kind(name)
    return backbone


def blocks_by_timm(name: str, strides: Sequence[int] = (4, 8, 16, 32)) -> Backbone:
    """Every block of a Swin or ConvNeXt network: maps "stride.number", such as "8.1", as the block gives them.

    Raises `MethodError` unless the network has stages of blocks at all of `strides`.
    """
    with torch.device("meta"):
        trial = _create(name, num_classes=0)
    kind = next((kind for kind in ("layers", "stages") if hasattr(trial, kind)), None)
    if kind is None or not set(strides) <= {info["reduction"] for info in trial.feature_info}:
        raise MethodError(
            f"the backbone {name} does not fit: the method needs the blocks of stages of strides "
            f"{', '.join(map(str, strides))}, as Swin and ConvNeXt have them. Choose another by --backbone."
        )
    net = _create(name, num_classes=0)
    parts = getattr(net, kind)
    positions_first = kind == "layers"  # Swin's maps are B x h x w x C
    for unused in ("norm", "norm_pre", "head"):
        if hasattr(net, unused):
            setattr(net, unused, nn.Identity())

    def run(stage: int, number: int, body: Any, x: Tensor) -> Tensor:
        part = (body.layers if positions_first else body.stages)[stage]
        if (stage, number) == (0, 0):
            x = (body.patch_embed if positions_first else body.stem)(x)
        elif positions_first:
            x = x.permute(0, 2, 3, 1)
        x = part.blocks[number](part.downsample(x) if number == 0 else x)
        return x.permute(0, 3, 1, 2) if positions_first else x

    steps: dict[str, Step] = {}
    channels, at = {}, {}
    for stage, (part, info) in enumerate(zip(parts, net.feature_info, strict=True)):
        for number in range(len(part.blocks)):
            key = f"{info['reduction']}.{number}"
            steps[key] = partial(run, stage, number)
            if info["reduction"] in strides:
                channels[key], at[key] = info["num_chs"], info["reduction"]
    return Backbone(
        name, net, steps, channels, f"{name} blocks {tuple(strides)}", partial(_published, name), *_scale(net),
        strides=at, multiple=_patch(net),
    )  # fmt: skip


def _weights_kind(name: str) -> Literal["imagenet", "published"]:
    """By the tag of timm's weights: "in1k", "in22k_ft_in1k" are ImageNet's, "lvd142m" (DINOv2) and "openai" are not."""
    config = timm.models.get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=True)
    tag = (config.tag if config else None) or "in1k"
    return "imagenet" if re.search(r"(^|_)in\d+k", tag) else "published"


def _tokens(name: str, count: int) -> Backbone:
    """A plain transformer, `c2` to `c5` being the quarters of its depth."""
    net, depth = _create(name, num_classes=0), _depth(name)
    indices = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    names = [f"c{number}" for number in (2, 3, 4, 5) if number <= count]

    def read(body: Any, images: Tensor, first: int) -> list[Tensor]:
        maps: list[Tensor] = body.forward_intermediates(
            images, indices=indices[:first], norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    channels, published = dict.fromkeys(names, net.num_features), partial(_published, name)
    return WholeBackbone(
        name, net, {}, channels, f"{name} quarters", published, *_scale(net),
        strides=dict.fromkeys(names, net.feature_info[0]["reduction"]), multiple=_patch(net), read=read,
    )  # fmt: skip


def _pyramid(name: str, output_stride: int, count: int) -> Backbone:
    """A network with maps of several sizes."""
    options: dict[str, Any] = {"features_only": True, "output_stride": output_stride}
    try:
        net = _create(name, **options)
    except (TypeError, NotImplementedError, AssertionError):  # cannot be dilated
        del options["output_stride"]
        net = _create(name, **options)
    found = len(net.feature_info.channels())
    names = [f"c{6 - found + index}" for index in range(found)]
    wanted = [key for key in names if int(key[1:]) <= count]
    common: dict[str, Any] = {
        "channels": dict(zip(wanted, net.feature_info.channels()[: len(wanted)], strict=True)),
        "strides": dict(zip(wanted, net.feature_info.reduction()[: len(wanted)], strict=True)),
        "signature": f"{name} {options}",
        "imagenet": partial(_published, name, **options),
        "multiple": _patch(net),
    }
    mean, std = _scale(net)
    if isinstance(net, FeatureListNet):
        return Backbone(name, net, _steps(net, wanted), mean=mean, std=std, **common)
    return WholeBackbone(
        name, net, {}, mean=mean, std=std, read=lambda body, images, first: body(images)[:first], **common
    )


def _steps(net: FeatureListNet, wanted: list[str]) -> dict[str, Step]:
    """The modules of a list network from one map to the next; those behind the last wanted map are dropped."""
    positions_first = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
    groups: list[list[str]] = [[]]
    for module in net:
        groups[-1].append(module)
        if module in net.return_layers:
            groups.append([])

    def run(group: list[str], first: bool, body: Any, x: Tensor) -> Tensor:
        if positions_first and not first:
            x = x.permute(0, 2, 3, 1)
        for module in group:
            x = body[module](x)
        return x.permute(0, 3, 1, 2) if positions_first else x

    steps: dict[str, Step] = {
        key: partial(run, group, key == wanted[0]) for key, group in zip(wanted, groups[: len(wanted)], strict=True)
    }
    for module in [module for group in groups[len(wanted) :] for module in group]:
        del net[module]
    return steps


def _create(name: str, **options: Any) -> Any:
    """timm's model by our name, for images of any size where it can take them."""
    model = name.removeprefix(PREFIX)
    if not timm.is_model(model):
        raise MethodError(unknown_name("timm model", model, [m for m in timm.list_models() if m[:3] == model[:3]]))
    refused: TypeError | None = None
    for words in _ANY_SIZE:
        try:
            return timm.create_model(model, **options, **words)
        except TypeError as error:  # another family's word
            refused = error
    raise refused or MethodError(f"{name} cannot be built")


def _depth(name: str) -> int:
    """The number of blocks of a plain transformer, whose maps all have one stride; 0 for any other network."""
    with torch.device("meta"):
        net = _create(name, num_classes=0)
    strides = {info["reduction"] for info in net.feature_info}
    return len(net.blocks) if len(strides) == 1 and hasattr(net, "blocks") else 0


def _scale(net: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return tuple(net.pretrained_cfg["mean"]), tuple(net.pretrained_cfg["std"])


def _patch(net: nn.Module) -> int:
    """What the sides of an image must be multiples of."""
    sizes = [module.patch_size[0] for module in net.modules() if isinstance(module, PatchEmbed)]
    return int(sizes[0]) if sizes else 1


def _only_size(trial: Backbone) -> tuple[int, int] | None:
    """The one size that a network takes, None if any: found by running it, on `meta` tensors, at another size."""
    sides = trial.multiple * 8, trial.multiple * 12
    try:
        trial.eval()(torch.empty(1, 3, *(max(side, 96 // trial.multiple * trial.multiple) for side in sides)))
    except (RuntimeError, AssertionError):
        height, width = cast(Any, trial.body).pretrained_cfg["input_size"][1:]
        return int(height), int(width)
    return None


def _published(name: str, **options: Any) -> Mapping[str, Tensor]:
    """The weights of timm's tag, with the names of our body."""
    try:
        net = _create(name, pretrained=True, **(options or {"num_classes": 0}))
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"the weights of {name} could not be had ({str(error).splitlines()[0]}). timm loads them from the Hugging "
            "Face hub: fetch them once on a machine that reaches it and copy its cache here (HF_HOME names the "
            "folder), choose a tag that has weights (NAME.TAG), or say --weights random."
        ) from error
    state: Mapping[str, Tensor] = net.state_dict()
    return state
