"""SSP: Self-Support Few-Shot Semantic Segmentation (ECCV 2022).

Pixels of one object resemble each other more than they resemble another object of its class: prototypes pooled from
the query itself, where a first match with the support is confident, match the query better than the support's own.

Ours computes what the authors' code computes. Differences: an episode's shots are a batch; what their code computes
and never uses (a local foreground prototype) is left out; a feature of length 0 gives a cosine of 0 where theirs gives
NaN; maps of fewer than 12 positions work. Backbones without their deep stem give their stage of the same depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fssbench.backbones import Backbone, build_backbone, resnet, vgg
from fssbench.method import (
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    Term,
    load_converted,
    strip_prefix,
)
from methods import blocks
from methods.dense_comparison import freeze_batchnorm_affine
from methods.positions import positions_first
from methods.recipes.ssp import LITE, PAPER

THRESHOLDS = (0.6, 0.7)  # a query pixel is surely background, surely object, above these
FALLBACK = 12  # as many likeliest pixels where none is sure
aligned = partial(blocks.resize, align_corners=True)  # every resize here aligns corners


class SSPConfig(MethodConfig):
    """Options of SSP."""

    backbone: str = "resnet50"
    size: tuple[int, int] | None = Field(
        None, description="squash images to this (under HSNet's protocol 400,400); None: their own size, as published"
    )
    deep_stem: bool = Field(
        default=True, description="ResNets with the authors' three 3x3 convolutions for torchvision's 7x7"
    )
    refine: bool = Field(default=True, description="a second self-support step")
    support_weight: float = Field(default=0.2, ge=0, description="of the supports' loss")


class Step(NamedTuple):
    """One self-support step: prototypes from the query's own sure pixels."""

    foreground: Tensor  # B x C
    background: Tensor  # B x C
    local_background: Tensor  # B x C x h x w, one a position
    selected: Tensor  # B x 2: how many pixels are surely background, surely object; 0: the likeliest were taken


class Matching(NamedTuple):
    """What happens inside: scores B x 2 x h x w before and after each step, and the steps."""

    scores: list[Tensor]
    steps: list[Step]


class SSP(Method):
    """Matching with the support's prototypes, then with the query's own."""

    info = MethodInfo(
        title="SSP",
        paper="Self-Support Few-Shot Semantic Segmentation",
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2207.11549",
        code="https://github.com/fanq15/SSP",
        backbones=("resnet50", "resnet101"),
    )
    Config = SSPConfig
    recipes = {"paper": PAPER, "lite": LITE}
    align_corners = True
    config: SSPConfig

    def __init__(self, config: SSPConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = signed_encoder(config.backbone, config.deep_stem)
        fit: Literal["squash", "native"] = "native" if config.size is None else "squash"
        self.query_input = Preprocess(config.size, fit, mean=self.encoder.mean, std=self.encoder.std)
        freeze_batchnorm_affine(self.encoder)
        for name, parameter in self.encoder.body.named_parameters():
            if name.startswith(("conv1.", "layer1.", "conv_stem.")):  # stem and first layer stay as they are
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> SSP:
        """Training mode; every BatchNorm keeps its running statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """The last stage's map."""
        return {"feature": list(features.values())[-1]}

    def encode_support(self, support: SupportBatch) -> Features:
        """Background and object prototypes, M x 2 x C; in training also the support's scores against its own."""
        feature = support.features["feature"]
        prototypes = pooled(feature, support.labels)
        encoded = {"prototypes": prototypes}
        if self.training:
            encoded["scores"] = matched(feature, *prototypes.unbind(1))
        return encoded

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Scores at feature size, B x 2 x h x w."""
        return self.final(self.matching(episodes))

    def matching(self, episodes: EpisodeBatch) -> Matching:
        """The match with the support's prototypes (means over the shots), then one or two self-support steps."""
        feature = episodes.query["feature"].float()
        background, foreground = episodes.support["prototypes"][:, 0].float().mean(1).unbind(1)
        scores = [matched(feature, background, foreground)]
        first = self_support(feature, scores[-1])
        object1 = 0.5 * foreground + 0.5 * first.foreground
        ground1 = 0.3 * first.background[..., None, None] + 0.7 * first.local_background
        scores.append(matched(feature, ground1, object1))
        if not self.config.refine:
            return Matching(scores, [first])
        second = self_support(feature, scores[-1])
        object2 = 0.5 * foreground + 0.5 * second.foreground
        ground2 = 0.3 * second.background[..., None, None] + 0.7 * second.local_background
        object2 = 0.5 * foreground + 0.2 * object1 + 0.3 * object2
        ground2 = 0.5 * background[..., None, None] + 0.2 * ground1 + 0.3 * ground2
        scores.append(matched(feature, ground2, object2))
        return Matching(scores, [first, second])

    def final(self, matching: Matching) -> Tensor:
        """What is scored: both steps' scores mixed, or the first's alone."""
        if not self.config.refine:
            return matching.scores[1]
        return 0.7 * matching.scores[2] + 0.3 * matching.scores[1]

    @property
    def loss_weights(self) -> dict[str, float]:
        """That of the supports is an option."""
        return {"support": self.config.support_weight}

    def losses(self, episodes: EpisodeBatch) -> dict[str, Term]:
        """Cross entropies, each a mean over labelled pixels: `final`, `first` (if refined), `self`, `support`.

        `self` matches the query with prototypes pooled by its own label, `support` each support with its own.
        """
        if episodes.query_labels is None or "scores" not in episodes.support:
            raise ValueError("SSP.losses expects episodes with query_labels, built in training mode")
        matching, feature = self.matching(episodes), episodes.query["feature"]
        own = matched(feature, *pooled(feature, episodes.query_labels).unbind(1))
        scores = {"final": self.final(matching)} | ({"first": matching.scores[1]} if self.config.refine else {})

        def entropy(scores: Tensor, labels: Tensor) -> Term:
            return blocks.cross_entropy(aligned(scores, (labels.shape[-2], labels.shape[-1])), labels.long())

        terms = {name: entropy(value, episodes.query_labels) for name, value in (scores | {"self": own}).items()}
        labels = episodes.support_labels.flatten(0, 2)
        return terms | {"support": entropy(episodes.support["scores"].flatten(0, 2), labels)}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dict of the authors' main.py."""
        load_converted(self, {_our_name(name): value for name, value in strip_prefix(state).items()})


def signed_encoder(name: str, deep_stem: bool) -> Backbone:
    """A backbone of output stride 8 that ends before its last activation.

    ResNet: layer 3 dilated by 2, its last block's residual sum. VGG: the last convolution. Others: the fourth stage.
    """
    if name.startswith("vgg"):
        return vgg(name, strides=(2, 2, 2, 1), dilation5=2, last_relu=False)
    if not name.startswith("resnet"):
        return build_backbone(name, output_stride=8, stages=4)
    base = resnet(name, dilations=(1, 1, 2, 1), depth=3, deep_stem=deep_stem)

    def early(body: Any, x: Tensor) -> Tensor:
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        out: Tensor = body.layer2(body.layer1(x))
        return out

    def late(body: Any, x: Tensor) -> Tensor:
        x, last = body.layer3[:-1](x), body.layer3[-1]
        out = F.relu(last.bn2(last.conv2(F.relu(last.bn1(last.conv1(x))))))
        residual: Tensor = last.bn3(last.conv3(out)) + x
        return residual

    channels = {stage: base.channels[stage] for stage in ("c3", "c4")}
    return base.recut({"c3": early, "c4": late}, channels, "before the last ReLU")


def pooled(feature: Tensor, labels: Tensor) -> Tensor:
    """Means inside background (0) and object (1), M x C x h x w and M x H x W -> M x 2 x C; void is in neither."""
    masks = torch.stack([labels == 0, labels == 1], dim=1).float()  # M x 2 x H x W
    masks = aligned(masks, (feature.shape[2], feature.shape[3]))
    with torch.autocast(feature.device.type, enabled=False):
        sums = masks.flatten(2) @ feature.float().flatten(2).transpose(1, 2)
        return sums / (masks.sum((2, 3)) + 1e-5).unsqueeze(2)


def matched(feature: Tensor, background: Tensor, foreground: Tensor) -> Tensor:
    """Ten times the cosine with each prototype, B x C or B x C x h x w (one a position) -> B x 2 x h x w."""

    def cosine(prototype: Tensor) -> Tensor:
        everywhere = prototype if prototype.dim() == 4 else prototype[..., None, None]
        return F.cosine_similarity(feature.float(), everywhere, dim=1)

    return 10 * torch.stack([cosine(background), cosine(foreground)], dim=1)


def self_support(feature: Tensor, scores: Tensor) -> Step:
    """Prototypes of the query's own sure pixels: B x C x h x w and B x 2 x h x w, each episode by itself."""
    made = [_of_one(f.flatten(1), p.flatten(1)) for f, p in zip(feature, scores.softmax(1), strict=True)]
    foreground, background, local, selected = (torch.stack(values) for values in zip(*made, strict=True))
    return Step(foreground, background, local.view_as(feature), selected)


def _of_one(feature: Tensor, probability: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """C x P and 2 x P -> foreground C, background C, local background C x P, and how many pixels were sure."""
    sure = torch.stack([row > threshold for row, threshold in zip(probability, THRESHOLDS, strict=True)])
    likeliest = probability.topk(min(FALLBACK, probability.shape[1])).indices
    chosen = torch.where(sure.any(1, keepdim=True), sure, torch.zeros_like(sure).scatter(1, likeliest, True))
    weights = chosen.to(feature.dtype)
    with torch.autocast(feature.device.type, enabled=False):
        background, foreground = (feature @ weights.T / weights.sum(1)).unbind(1)  # C each
    places = positions_first(chosen[:1])[0]  # S
    inside = feature.index_select(1, places)  # C x S
    cosines = F.normalize(feature, dim=0).T @ F.normalize(inside, dim=0)  # P x S
    alike = (2 * cosines).masked_fill(~chosen[0, places], -torch.inf)
    return foreground, background, inside @ alike.softmax(1).T, sure.sum(1)


def _our_name(name: str) -> str:
    """Their `layer0` is the stem without (`0`) and with (`1`) its last batch normalisation."""
    for theirs, ours in (("layer0.0.", "conv1."), ("layer0.1.", "bn1."), ("layer", "layer")):
        if name.startswith(theirs):
            return f"encoder.body.{ours}{name.removeprefix(theirs)}"
    return name
