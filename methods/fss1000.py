"""FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation (CVPR 2020): its relation network.

A U-Net whose bottleneck compares: the encoder takes the mask as a fourth channel (zeros for the query), support and
query features are concatenated, and a decoder with skips from the query gives the mask. K supports are summed.

As in the authors' code: batch normalisation uses the statistics of the batch at test too, the K supports among
themselves and one query by itself (`batch_norm=batch`; `running` is the usual eval mode, for networks trained to
have it); no ImageNet normalisation; pixels are judged by a squared error. Differences: in training the K supports of
each episode are a group of their own, however many episodes a batch has, and running statistics follow the mean over
groups; void pixels are left out of the loss. Backbones other than VGG-16 with batch normalisation are our reading:
all stages but the last are skips, and their own normalisation of pixels holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone, Needs, build_backbone
from fssbench.method import (
    VOID,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    Term,
    foreground,
    load_converted,
    strip_prefix,
)
from methods.blocks import each_alone, resize
from methods.recipes.fss1000 import LITE, PAPER
from methods.winograd import Conv3x3, as_conv3x3

WIDTH = 512  # channels of the comparison
DECODER_WIDTHS = (512, 256, 128, 64, 64)  # from the comparison up to full resolution


class FSS1000Config(MethodConfig):
    """Options of FSS-1000's relation network."""

    backbone: str = "vgg16_bn"
    size: tuple[int, int] = (224, 224)
    batch_norm: Literal["batch", "running"] = Field(
        "batch", description="statistics at test: of the batch, as published, or the running ones"
    )


class GroupedBatchNorm(nn.BatchNorm2d):
    """BatchNorm by the statistics of each group of `group` consecutive images; None: by the running statistics."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 1.0, act: nn.Module | None = None) -> None:
        super().__init__(channels, eps, momentum)
        self.group: int | None = None
        self.act = act or nn.Identity()  # timm's norm layers end in their activation

    def forward(self, x: Tensor) -> Tensor:
        """(G * group) x C x h x w, normalised within each of the G groups."""
        mean, variance = self.running_mean, self.running_var
        if self.group is None:
            plain = F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
            return self._activated(plain)
        if mean is None or variance is None or self.momentum is None:
            raise RuntimeError("GroupedBatchNorm keeps running statistics")
        groups = len(x) // self.group
        # A group becomes a batch, and the groups' channels stand side by side: group x (G * C) x h x w.
        beside = x.unflatten(0, (groups, self.group)).transpose(0, 1).flatten(1, 2)
        means, variances = mean.repeat(groups), variance.repeat(groups)
        weight, bias = self.weight.repeat(groups), self.bias.repeat(groups)
        normal = F.batch_norm(beside, means, variances, weight, bias, True, self.momentum, self.eps)
        if self.training:
            with torch.no_grad():
                mean.copy_(means.unflatten(0, (groups, -1)).mean(0))
                variance.copy_(variances.unflatten(0, (groups, -1)).mean(0))
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        return self._activated(normal.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1))

    def _activated(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x)
        return y


NEEDS = Needs(restarts=("c1", "c2", "c3", "c4", "c5"))  # a mask enters the first stage


class MaskedBackbone(Backbone):
    """A backbone whose first convolution takes a mask as fourth channel, and whose norm layers know groups."""

    def __init__(self, net: Backbone) -> None:
        super().__init__(
            net.name,
            net.body,
            net._steps,
            net.channels,
            f"{net.signature} masked",
            net._imagenet,
            net.mean,
            net.std,
            strides=net.strides,
        )
        self.first = next(name for name, layer in net.body.named_modules() if isinstance(layer, nn.Conv2d))
        _take_mask(net.body.get_submodule(self.first))
        for name, layer in list(net.body.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):
                act = getattr(layer, "act", None)
                _replace(net.body, name, GroupedBatchNorm(layer.num_features, layer.eps, layer.momentum or 0.1, act))
        as_conv3x3(net.body)

    def load_imagenet(self) -> None:
        """ImageNet weights for all but the first convolution, as the authors' `loadImagenet` does."""
        state = dict(self._imagenet())
        own = self.body.state_dict()
        state |= {name: value for name, value in own.items() if name.startswith(f"{self.first}.")}
        self.body.load_state_dict({name: state[name] for name in own})


class RelationNetwork(nn.Module):
    """The comparison and the decoder. Names are the authors'."""

    def __init__(self, deep: int, skips: list[int]) -> None:
        """`deep`: channels of the compared features; `skips`: of the query's skips, from coarse to fine."""
        super().__init__()
        widths = DECODER_WIDTHS[-len(skips) :]
        self.layer1, self.layer2 = conv_norm(2 * deep, WIDTH), conv_norm(WIDTH, WIDTH)
        for number, (inputs, skip, width) in enumerate(zip((WIDTH, *widths[:-1]), skips, widths, strict=True), 1):
            block = conv_norm(inputs + skip, width)
            block.extend(conv_norm(width, width) if number < len(skips) else [nn.Conv2d(width, 1, 1)])
            self.add_module(f"double_conv{number}", block)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels)))
                nn.init.zeros_(layer.bias) if layer.bias is not None else None

    def forward(self, compared: Tensor, skips: list[Tensor]) -> Tensor:
        """B x 2C x h x w (support first) and the skips from coarse to fine -> B x 1 x H x W before the sigmoid."""
        x: Tensor = self.layer2(self.layer1(compared))
        for number, skip in enumerate(skips, 1):
            x = resize(x, (skip.shape[2], skip.shape[3]), align_corners=True)
            x = self.get_submodule(f"double_conv{number}")(torch.cat([x, skip], dim=1))
        return x


class FSS1000(Method):
    """Relation network with a mask channel."""

    info = MethodInfo(
        title="FSS-1000",
        paper="FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1907.12347",
        code="https://github.com/HKUSTCV/FSS-1000",
        backbones=("vgg16_bn",),
        annotations=("mask", "box"),
    )
    Config = FSS1000Config
    recipes = {"paper": PAPER, "lite": LITE}
    config: FSS1000Config
    encodes_support = False

    def __init__(self, config: FSS1000Config) -> None:
        super().__init__(config)
        self.encoder: MaskedBackbone = MaskedBackbone(build_backbone(config.backbone, 32, needs=NEEDS))
        self.pooled = self.encoder.name.startswith("vgg")  # the comparison is behind a fifth pool
        names = list(self.encoder.channels)
        self.skips = tuple(reversed(names if self.pooled else names[:-1]))
        channels = self.encoder.channels
        self.relation = RelationNetwork(channels[names[-1]], [channels[name] for name in self.skips])
        published = config.backbone == "vgg16_bn"
        self.query_input = Preprocess(
            config.size,
            mean=(0.0, 0.0, 0.0) if published else self.encoder.mean,
            std=(1.0, 1.0, 1.0) if published else self.encoder.std,
        )

    def encode(self, images: Tensor) -> Features:
        """`deep` to be compared and the skips: B x C x h x w each. In training the batch is normalised together."""
        return self._encoded(images, torch.zeros_like(images[:, :1]), len(images) if self.training else 1)

    def encode_support(self, support: SupportBatch) -> Features:
        """`deep` of image and mask, M x C x h x w; nothing at test by batch statistics: supports need each other."""
        if self._together and not self.training:
            return {}
        return {"deep": self._encoded(support.pixels, support.foreground, support.shots)["deep"]}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x H x W: zeros for the background, so that the softmax is the paper's sigmoid."""
        x = self.related(self.comparison(episodes), episodes.query)
        return torch.cat([torch.zeros_like(x), x], dim=1)

    def comparison(self, episodes: EpisodeBatch) -> Tensor:
        """The relation network's input: the sum of the supports, then the query; B x 2C x h x w."""
        if "deep" not in episodes.support:
            masks = foreground(episodes.support_labels).unsqueeze(3)
            deep = each_alone(self.supports, episodes.support_pixels[:, 0], masks[:, 0])
        else:
            deep = episodes.support["deep"][:, 0].sum(1)
        return torch.cat([deep, episodes.query["deep"]], dim=1)

    def supports(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """The sum over K supports, normalised among themselves: B x K x 3 (and 1) x H x W -> B x C x h x w."""
        deep = self._encoded(pixels.flatten(0, 1), masks.flatten(0, 1), pixels.shape[1])["deep"]
        total: Tensor = deep.unflatten(0, pixels.shape[:2]).sum(1)
        return total

    def related(self, compared: Tensor, query: Features) -> Tensor:
        """The relation network, B x 1 x H x W before the sigmoid. In training the batch is normalised together."""
        together = len(compared) if self.training else 1
        set_group(self.relation, together if self._together else None)
        logits: Tensor = self.relation(compared, [query[name] for name in self.skips])
        return logits

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Mean squared error of the sigmoid at the query's input size."""
        if episodes.query_labels is None:
            raise ValueError("FSS1000.losses expects episodes with query_labels")
        probability = resize(self.segment(episodes)[:, 1:], episodes.query_shape).sigmoid()[:, 0]
        valid = episodes.query_labels != VOID
        error = (probability - (episodes.query_labels == 1).to(probability.dtype)).square()
        return {"main": Term((error * valid).sum(), valid.sum())}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load the authors' two state dicts as one: names begin with `feature_encoder.` or `relation_network.`."""
        load_converted(self, {_our_name(key): value for key, value in strip_prefix(state).items()})

    @property
    def _together(self) -> bool:
        """Whether norm layers use the statistics of the images at hand."""
        return self.training or self.config.batch_norm == "batch"

    def _encoded(self, images: Tensor, masks: Tensor, group: int | None) -> Features:
        set_group(self.encoder, group if self._together else None)
        features: Features = self.encoder(torch.cat([images, masks.to(images.dtype)], dim=1))
        deep = features[next(reversed(features))]
        made = {name: features[name] for name in self.skips}
        return made | {"deep": F.max_pool2d(deep, 2) if self.pooled else deep}


def conv_norm(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm of momentum 1, ReLU."""
    return nn.Sequential(Conv3x3(inputs, outputs), GroupedBatchNorm(outputs), nn.ReLU())


def set_group(module: nn.Module, group: int | None) -> None:
    """How many images the norm layers below `module` take together; None: running statistics."""
    for layer in module.modules():
        if isinstance(layer, GroupedBatchNorm):
            layer.group = group


def _take_mask(conv: nn.Module) -> None:
    """Give a convolution a fourth input channel, and new weights."""
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"expected a convolution, found {type(conv).__name__}")
    conv.in_channels = 4
    conv.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, 4, *conv.kernel_size))
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def _replace(body: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(body.get_submodule(parent), leaf, layer)


def _our_name(key: str) -> str:
    if key.startswith("feature_encoder.layer1.0."):
        return key.replace("feature_encoder.layer1.0", "encoder.body.features.0")
    if key.startswith("feature_encoder.features."):
        index, _, leaf = key.removeprefix("feature_encoder.features.").partition(".")
        return f"encoder.body.features.{int(index) + 1}.{leaf}"  # the authors' list starts behind the first layer
    return key.replace("relation_network.", "relation.", 1)
