"""PFENet: Prior Guided Feature Enrichment Network for Few-Shot Segmentation (TPAMI 2020).

High-level features say, without learning, where the query resembles the support (the prior mask); a pyramid then
merges prior, support vector and query feature at several sizes, passing what it finds from finer to coarser levels.

Ours computes what the authors' code computes. Differences: non-square maps work; the prior is compared in chunks of
bounded memory and only with support positions inside the mask (outside it the cosine is 0); inner classifiers run
in the loss only; in training the supports' unmasked last stage, which nothing uses, is left out as in theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from fssbench.backbones import Backbone, Needs, build_backbone, resnet, vgg
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
from methods.positions import ragged_positions
from methods.recipes.pfenet import LITE, PAPER
from methods.winograd import Conv3x3

WIDTH = 256  # channels of every map in the published head
POSITIONS = 512  # of a support, compared with the query at a time
aligned = partial(blocks.resize, align_corners=True)  # every resize here aligns corners
ENRICHMENT = ("init_merge.", "alpha_conv.", "beta_conv.", "inner_cls.", "res1.", "res2.")  # the authors' names


class PFENetConfig(MethodConfig):
    """Options of PFENet; the defaults are the authors' for PASCAL-5i."""

    retired = frozenset({"prior_megabytes"})

    backbone: str = "resnet50"
    size: tuple[int, int] = Field(default=(473, 473), description="network input; 641 x 641 for COCO-20i")
    deep_stem: bool = Field(
        default=True, description="ResNets with the authors' three 3x3 convolutions for torchvision's 7x7"
    )
    ppm_scales: tuple[float, ...] = Field(
        (60, 30, 15, 8),
        description="pyramid bins, finest first; up to 1: share of the map's sides (COCO: 1 .5 .25 .125)",
    )
    width: int = Field(WIDTH, ge=1, description="channels of every map in the head")
    aux_weight: float = Field(default=1.0, ge=0, description="of the inner classifiers' mean loss")
    batchnorm: Literal["batch", "running"] = Field(
        default="batch", description="statistics of the frozen encoder in training; the authors' code uses the batch's"
    )

    @field_validator("ppm_scales")
    @classmethod
    def _positive(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not scales or min(scales) <= 0:
            raise ValueError(f"expected at least one bin, all above 0, found {scales}")
        return scales


def encoder_as_published(name: str, deep_stem: bool) -> Backbone:
    """The authors' layouts of ResNet and VGG; others at output stride 8. `c3`, `c4`, `c5` are their layers 2 to 4.

    ResNet: whole layers 3 and 4 dilated by 2 and 4, stride 8. VGG: each layer ends with its pool (`ceil_mode`), so
    layer 2 has stride 8, layers 3 and 4 stride 16.
    """
    if name.startswith("resnet"):
        return resnet(name, dilations=(1, 1, 2, 4), dilate_first_block=True, deep_stem=deep_stem)
    if name.startswith("vgg"):
        return vgg(name, ceil_mode=True, pools_last=True)
    return build_backbone(name, 8, needs=Needs(("c3", "c4", "c5"), restarts=("c5",)))


@torch.no_grad()
def best_cosines(query: Tensor, support: Tensor) -> Tensor:
    """The cosine of each query position with the support position most like it.

    `query` B x C x h x w; `support` B x K x C x h' x w', zero outside the mask. Gives B x K x h x w, float32 or more.
    """
    with torch.autocast(query.device.type, enabled=False):  # sums over 2,048 channels overflow in float16
        at_least = torch.promote_types(query.dtype, torch.float32)
        q, s = query.to(at_least).flatten(2), support.flatten(3)  # B x C x Q, B x K x C x P
        q_norm = q.square().sum(1).sqrt()  # B x Q; a fifth of the time of `norm`, which is slow across memory
        best = q.new_full((*s.shape[:2], q.shape[2]), -torch.inf)
        # The spare position is one outside, whose 0 the maximum has to see.
        for (b, k), inside in ragged_positions((s.amax(2) > 0) | (s.amin(2) < 0), spare=1):
            for part in s[b, k].index_select(1, inside).to(at_least).split(POSITIONS, dim=1):
                dots = part.t() @ q[b]  # S x Q
                cosines = dots.div_(part.square().sum(0).sqrt().unsqueeze(1) * q_norm[b] + 1e-7)
                best[b, k] = torch.maximum(best[b, k], cosines.amax(0))
    return best.view(*best.shape[:2], *query.shape[2:])


def prior_mask(query: Tensor, support: Tensor) -> Tensor:
    """How much each query position resembles the masked support: `best_cosines`, min-max scaled over the query."""
    best = best_cosines(query, support)
    low, high = best.amin((2, 3), keepdim=True), best.amax((2, 3), keepdim=True)
    return (best - low) / (high - low + 1e-7)


def conv_relu(inputs: int, kernel: Literal[1, 3], width: int = WIDTH) -> list[nn.Module]:
    """A convolution to `width` channels without bias, and ReLU."""
    convolution = Conv3x3(inputs, width, bias=False) if kernel == 3 else nn.Conv2d(inputs, width, kernel, bias=False)
    return [convolution, nn.ReLU()]


def pair(width: int) -> nn.Sequential:
    """Two 3x3 `conv_relu`."""
    return nn.Sequential(*conv_relu(width, 3, width), *conv_relu(width, 3, width))


def together(layers: nn.Module, parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """`conv_relu` of kernel 1 of the parts, each B x C x (size or smaller), as if resized to `size` and concatenated.

    A 1x1 convolution and a bilinear resize commute, so that small parts are convolved while they are small, and a
    vector (B x C x 1 x 1) once.
    """
    weights = layers.get_parameter("0.weight").split([part.shape[1] for part in parts], dim=1)
    each = [F.conv2d(part, weight) for part, weight in zip(parts, weights, strict=True)]
    return F.relu(reduce(torch.add, (x if x.shape[2:] == (1, 1) else aligned(x, size) for x in each)))


def classifier(width: int) -> nn.Sequential:
    """Background and foreground logits from a feature map."""
    return nn.Sequential(*conv_relu(width, 3, width), nn.Dropout2d(0.1), nn.Conv2d(width, 2, 1))


class FeatureEnrichment(nn.Module):
    """The feature enrichment module (paper, Sec. 3.3), with the authors' names for its layers."""

    def __init__(self, scales: tuple[float, ...], width: int) -> None:
        super().__init__()
        self.scales = scales
        levels = range(len(scales))
        self.init_merge = nn.ModuleList(nn.Sequential(*conv_relu(2 * width + 1, 1, width)) for _ in levels)
        self.alpha_conv = nn.ModuleList(nn.Sequential(*conv_relu(2 * width, 1, width)) for _ in levels[1:])
        self.beta_conv = nn.ModuleList(pair(width) for _ in levels)
        self.inner_cls = nn.ModuleList(classifier(width) for _ in levels)
        self.res1 = nn.Sequential(*conv_relu(len(scales) * width, 1, width))
        self.res2 = pair(width)

    def forward(self, query: Tensor, vector: Tensor, prior: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Query B x C x h x w, support vector B x C, prior B x 1 x h x w -> feature B x C x h x w, and the levels'."""
        levels: list[Tensor] = []  # B x C x bin x bin
        size = (query.shape[2], query.shape[3])
        for level, scale in enumerate(self.scales):
            bins = self.bins(scale, size)
            pooled = F.adaptive_avg_pool2d(query, bins)
            merged = together(self.init_merge[level], [pooled, vector[:, :, None, None], aligned(prior, bins)], bins)
            if level > 0:
                finer = aligned(aligned(levels[-1], size), bins)
                merged = merged + self.alpha_conv[level - 1](torch.cat([merged, finer], dim=1))
            merged = merged + self.beta_conv[level](merged)
            levels.append(merged)
        feature = together(self.res1, levels, size)
        return feature + self.res2(feature), levels

    @staticmethod
    def bins(scale: float, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a level: `scale` itself, or up to 1 that share of the map's sides (at least 1)."""
        if scale > 1:
            return int(scale), int(scale)
        return max(1, int(scale * size[0])), max(1, int(scale * size[1]))


class PFENet(Method):
    """Prior mask, then feature enrichment."""

    info = MethodInfo(
        title="PFENet",
        paper="Prior Guided Feature Enrichment Network for Few-Shot Segmentation",
        venue="TPAMI",
        year=2020,
        url="https://arxiv.org/abs/2008.01449",
        code="https://github.com/dvlab-research/PFENet",
        backbones=("resnet50", "resnet101", "vgg16_bn"),
    )
    Config = PFENetConfig
    checked_with = ("ppm_scales=0.5,0.25",)
    recipes = {"paper": PAPER, "lite": LITE}
    align_corners = True
    supports_first = False
    shot_by_shot = True
    config: PFENetConfig

    def __init__(self, config: PFENetConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = encoder_as_published(config.backbone, config.deep_stem)
        self.encoder.requires_grad_(False)
        self.query_input = Preprocess(config.size, "pad", mean=self.encoder.mean, std=self.encoder.std, multiple=8)
        middle = self.encoder.channels["c3"] + self.encoder.channels["c4"]
        self.down_query = nn.Sequential(*conv_relu(middle, 1, config.width), nn.Dropout2d(0.5))
        self.down_supp = nn.Sequential(*conv_relu(middle, 1, config.width), nn.Dropout2d(0.5))
        self.enrichment = FeatureEnrichment(config.ppm_scales, config.width)
        self.cls = classifier(config.width)

    def train(self, mode: bool = True) -> PFENet:
        """Training mode; the frozen encoder keeps its running statistics if so configured.

        With the batch's statistics nothing is cached in training: the last stage runs where it is used, on the query
        and on masked supports, so that its batch normalisation sees what it sees in the authors' code. (All supports
        of a batch go through the encoder together; theirs go shot by shot, which differs if `batch` statistics meet
        K > 1.)
        """
        super().train(mode)
        running = self.config.batchnorm == "running"
        self.encoder.last = "c4" if mode and not running else None
        if running:
            self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """Middle features as query and as support, and the encoder's last two stages."""
        layer3 = features["c4"]
        middle = torch.cat([layer3, aligned(features["c3"], (layer3.shape[2], layer3.shape[3]))], dim=1)
        projected = {"query": self.down_query(middle), "support": self.down_supp(middle), "layer3": layer3}
        return projected | ({"layer4": features["c5"]} if "c5" in features else {})

    def encode_query(self, images: Tensor) -> Features:
        """With the last stage at once, so that its batch statistics see the queries before the supports."""
        features = self.encode(images)
        return features if "layer4" in features else features | {"layer4": self.encoder.stage("c5", features["layer3"])}

    def encode_support(self, support: SupportBatch) -> Features:
        """The masked mean of the support feature, M x C, and masked high-level features, M x C' x h x w."""
        feature, layer3 = support.features["support"], support.features["layer3"]
        mask = aligned(support.foreground, (layer3.shape[2], layer3.shape[3]))
        # The small constant in the denominator is the authors'; a support without object gives a zero vector.
        vector = (feature.float() * mask).sum((2, 3)) / (mask.sum((2, 3)) + 0.0005)
        layer4 = self.encoder.stage("c5", layer3 * mask.to(layer3.dtype))
        layer4 = layer4 * aligned(mask, (layer4.shape[2], layer4.shape[3])).to(layer4.dtype)
        return {"vector": vector.to(feature.dtype), "layer4": layer4}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits at the resolution of layer 3, B x 2 x h x w."""
        feature, _ = self.enriched(episodes)
        logits: Tensor = self.cls(feature)
        return logits

    def enriched(self, episodes: EpisodeBatch) -> tuple[Tensor, list[Tensor]]:
        """The enriched query feature and the pyramid levels'. Shots: mean vector, mean prior, one pass."""
        query = episodes.query["query"]
        vector = episodes.support["vector"][:, 0].mean(1)
        return self.enrichment(query, vector, self.prior(episodes))  # type: ignore[no-any-return]

    def prior(self, episodes: EpisodeBatch) -> Tensor:
        """The prior masks' mean over the shots at layer 3's size, B x 1 x h x w."""
        layer3, layer4 = episodes.query["layer3"], episodes.query.get("layer4")
        if layer4 is None:
            layer4 = self.encoder.stage("c5", layer3)
        each = prior_mask(layer4, episodes.support["layer4"][:, 0])
        return aligned(each, (layer3.shape[2], layer3.shape[3])).mean(1, keepdim=True)

    @property
    def loss_weights(self) -> dict[str, float]:
        """That of the inner classifiers is an option."""
        return {"aux": self.config.aux_weight}

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """`main` of the logits and `aux`, the mean of the pyramid levels': cross entropies over pixels not void."""
        if episodes.query_labels is None:
            raise ValueError("PFENet.losses expects episodes with query_labels")
        labels = episodes.query_labels

        def judged(logits: Tensor) -> Term:
            return blocks.cross_entropy(aligned(logits, episodes.query_shape), labels)

        feature, levels = self.enriched(episodes)
        inner = [judged(classify(level)) for classify, level in zip(self.enrichment.inner_cls, levels, strict=True)]
        aux = Term(torch.stack([term.total for term in inner]).mean(), inner[0].count)
        return {"main": judged(self.cls(feature)), "aux": aux}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict` of the authors' train.py; ResNets need `deep_stem`."""
        named = encoder_name(self.encoder)
        load_converted(self, {_our_name(named(name)): value for name, value in strip_prefix(state).items()})


def encoder_name(encoder: Backbone) -> Callable[[str], str]:
    """What turns the authors' name of an entry of the encoder into ours, and leaves other names alone."""
    return _resnet_name if encoder.name.startswith("resnet") else _vgg_name


def _our_name(name: str) -> str:
    return f"enrichment.{name}" if name.startswith(ENRICHMENT) else name


def _resnet_name(name: str) -> str:
    """`layer0` is the deep stem; its last batch normalisation is ResNet's `bn1`."""
    if name.startswith("layer0.7."):
        return name.replace("layer0.7", "encoder.body.bn1", 1)
    if name.startswith("layer0."):
        return name.replace("layer0", "encoder.body.conv1", 1)
    return f"encoder.body.{name}" if name.startswith("layer") else name


def _vgg_name(name: str) -> str:
    """Each layer counts its part of VGG's `features` from 0."""
    layer, _, rest = name.partition(".")
    first = {"layer0": 0, "layer1": 7, "layer2": 14, "layer3": 24, "layer4": 34}.get(layer)
    if first is None:
        return name
    index, _, leaf = rest.partition(".")
    return f"encoder.body.features.{first + int(index)}.{leaf}"
