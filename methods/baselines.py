"""Three plain baselines on frozen features of any backbone, which nobody trained for few-shot segmentation.

All three see the same features: a position's vector is the last two stages, each of unit length, side by side (of a
plain transformer the last map alone, whose depth mixes stages already). A support's cell is object by the share of
its valid pixels that the mask covers; void, unlabelled and other ways' pixels count for nothing.

`prototype`: the mean direction of all K shots' object cells and that of their background cells, weighted by share; a
query position belongs to the nearer by cosine. It has no constant that could change a mask.

`nearest`: dense matching. A query position belongs to the object if the mean cosine with its `neighbours` nearest
object cells is above that with its nearest background cells. A cell is object from a share of one half: the label
that most of its pixels have. `neighbours` is 5 so that one odd cell does not decide.

`linear-probe`: logistic regression on the K shots' cells, the strong baseline of the 2025 studies of foundation models
on this task. Targets are the shares themselves; each episode is fitted by itself, from zero, by accelerated full-batch
descent at the step that the curvature of unit vectors allows, so that nothing is random and episodes do not depend on
their batch. `balance` gives object and background equal weight: without it the fit calls nearly everything background,
of which a support has most. `decay` keeps the fit off single cells: the more, the nearer its direction is to the
difference of the two means, where it stays from 1 on. `steps`: 30, 100 and 300 differ by less than a point.

Constants are chosen by benchmarks/baselines.py: on the base classes of a fold, on training images, never on what it
tests. On PASCAL-5i (part of `trainaug`, EfficientNet-Lite0, 1 shot, 25 episodes a fold), mIoU of folds 0 and 1: nearest
with 1, 5, 20, 50 neighbours 17.5 35.1, 17.4 35.2, 14.5 35.7, 9.2 35.5; the probe at decay 1e-3 without balance
1.8 13.1, with it 4.9 21.7, at 1e-2 6.6 24.2; prototype 15.7 34.7. On 15 episodes of fold 0 at decay 0.1, 1 and 10:
13.4, 13.7, 13.7 (prototype 13.7). Decays above 1e-2 were not measured on fold 1, nor anything at 5 shots.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fssbench.backbones import Backbone, build_backbone
from fssbench.method import (
    BACKGROUND,
    OBJECT,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
)
from methods.blocks import cosine_scores, resize
from methods.positions import positions_first

SIDE = 417  # of the input, PANet's; the nearest that suits the backbone


class BaselineConfig(MethodConfig):
    """Options of all baselines."""

    backbone: str = "resnet50"
    size: tuple[int, int] | None = Field(None, description="of the input; none: 417, or the nearest the backbone takes")
    stages: tuple[str, ...] | None = Field(None, description="maps that make a vector; none: the last two")


def _info(title: str, paper: str) -> MethodInfo:
    return MethodInfo(
        title=title, paper=paper, venue="fssbench", year=2026, url="", code=None, backbones=("resnet50",),
        untrained=True, trainable=False, baseline=True, annotations=("mask", "scribble", "box"), max_ways=None,
    )  # fmt: skip


class Baseline(Method):
    """What the baselines share: frozen vectors of unit length, and the shares of a support's cells."""

    Config: ClassVar[type[MethodConfig]] = BaselineConfig
    config: BaselineConfig

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = build_backbone(config.backbone, output_stride=8).requires_grad_(False)
        self.stages = self.encoder.chosen_maps(config.stages or default_maps(self.encoder))
        self.encoder.last = self.stages[-1]
        size = config.size or self.encoder.suited_size(SIDE)
        self.query_input = Preprocess(size, mean=self.encoder.mean, std=self.encoder.std)

    def project(self, features: Features) -> Features:
        """`vector`, B x C x h x w, of unit length."""
        maps = [features[stage].float() for stage in self.stages]
        size = (maps[0].shape[2], maps[0].shape[3])
        parts = [F.normalize(resize(x, size), dim=1) for x in maps]
        return {"vector": torch.cat(parts, dim=1) / len(parts) ** 0.5}

    def encode_support(self, support: SupportBatch) -> Features:
        """Vectors, M x C x h x w, and the shares of object and background in each cell, M x 2 x h x w."""
        vector = support.features["vector"]
        return {"vector": vector, "share": shares(support.labels, (vector.shape[2], vector.shape[3]))}


class Prototype(Baseline):
    """Masked averages, compared by cosine."""

    info = _info("Prototype", "Baseline: masked-average prototypes and cosine")

    def encode_support(self, support: SupportBatch) -> Features:
        """Sums of the object's and the background's vectors, M x 2 x C."""
        made = super().encode_support(support)
        return {"sums": torch.einsum("mchw,mrhw->mrc", made["vector"], made["share"])}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Cosines with the mean directions: B x (1 + N) x h x w."""
        sums = episodes.support["sums"].sum(2)  # B x N x 2 x C, over the shots
        directions = torch.cat([sums[:, :, 1].sum(1, keepdim=True), sums[:, :, 0]], dim=1)
        return cosine_scores(episodes.query["vector"], directions)


class NearestConfig(BaselineConfig):
    """Options of the nearest support pixels."""

    neighbours: int = Field(5, ge=1, description="support cells of each side that a position is compared with")


class Nearest(Baseline):
    """Dense matching with the nearest support cells."""

    info = _info("Nearest", "Baseline: nearest support pixels by cosine")
    Config = NearestConfig
    config: NearestConfig

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Mean cosines with the nearest cells of the background and of every way: B x (1 + N) x h x w."""
        return torch.stack([self._scores(episodes, b) for b in range(episodes.size[0])])

    def _scores(self, episodes: EpisodeBatch, b: int) -> Tensor:
        query = episodes.query["vector"][b]  # C x h x w
        vectors = episodes.support["vector"][b].movedim(2, -1).flatten(1, 3)  # N x S x C
        share = episodes.support["share"][b].movedim(2, -1).flatten(1, 3)  # N x S x 2
        is_object = share[..., 0] >= 0.5
        # An object smaller than half a cell is looked for in the cells that hold most of it.
        most = share[..., 0].amax(1, keepdim=True)
        is_object |= (share[..., 0] == most) & (most > 0) & ~is_object.any(1, keepdim=True)
        is_background = (share[..., 1] >= 0.5) & ~is_object
        banks = [(vectors.flatten(0, 1), is_background.flatten()), *zip(vectors, is_object, strict=True)]
        return torch.stack([self._nearest(query, *bank) for bank in banks])

    def _nearest(self, query: Tensor, vectors: Tensor, cells: Tensor) -> Tensor:
        """The mean of the largest cosines of C x h x w with those `cells` (S, bool) of S x C: h x w; -1 without any."""
        places = positions_first(cells[None])[0]
        bank, outside = vectors.index_select(0, places).float().T, ~cells[places]
        step = max(1, self.work_bytes // (4 * len(places)))
        with torch.autocast(query.device.type, enabled=False):
            found = []
            for part in query.flatten(1).T.float().split(step):  # `topk` is fast along the last dimension only
                cosines = (part @ bank).masked_fill_(outside, -torch.inf)
                best = cosines.topk(min(self.config.neighbours, len(places))).values
                there = best > -torch.inf
                mean = best.where(there, 0).sum(1) / there.sum(1)
                found.append(mean.where(there[:, 0], -1))
        return torch.cat(found).view(query.shape[1:])


class LinearProbeConfig(BaselineConfig):
    """Options of the linear probe."""

    decay: float = Field(1.0, gt=0, description="weight of the squared weights beside the mean loss of a cell")
    steps: int = Field(100, ge=1, description="of accelerated descent")
    balance: bool = Field(default=True, description="object and background weigh the same in the loss")


class LinearProbe(Baseline):
    """Logistic regression on the support's pixels."""

    info = _info("Linear probe", "Baseline: a linear probe fitted on the support's pixels")
    Config = LinearProbeConfig
    config: LinearProbeConfig

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """The fitted classifier's logits: B x (1 + N) x h x w."""
        query = episodes.query["vector"].float()
        with torch.autocast(query.device.type, enabled=False):
            found = [self._segmented(query[b], episodes.select(slice(b, b + 1))) for b in range(len(query))]
        return torch.stack(found)

    def _segmented(self, query: Tensor, episode: EpisodeBatch) -> Tensor:
        vectors = episode.support["vector"][0].float().movedim(2, -1).flatten(0, 3)  # (N K h w) x C
        share = episode.support["share"][0].float()  # N x K x 2 x h x w
        ways = len(share)
        targets = share.new_zeros(ways, *share.shape[1:2], *share.shape[3:], 1 + ways)
        targets[..., 0] = share[:, :, 1]
        for way in range(ways):
            targets[way, ..., 1 + way] = share[way, :, 0]
        weights, bias = fit(
            vectors, targets.flatten(0, 3), self.config.decay, self.config.steps, balance=self.config.balance
        )
        return torch.einsum("chw,pc->phw", query, weights) + bias[:, None, None]


def fit(vectors: Tensor, targets: Tensor, decay: float, steps: int, *, balance: bool) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: S x C vectors of unit length, S x P soft targets -> P x C weights, P biases.

    Minimises the mean cross entropy (of each class equally, if balanced) plus decay / 2 times the squared weights by
    Nesterov's method. The step is the inverse of the largest curvature, (1 + 1) / 2 + decay: the softmax's is at most
    1 / 2, a vector's squared length with its bias 2. Vectors are centred, which leaves the classifier what it is and
    its problem better conditioned.
    """
    if balance:
        targets = targets / targets.sum(0).clamp_min(1e-6)
    mass = targets.sum(1)
    total = mass.sum().clamp_min(1e-6)
    centre = (mass @ vectors / total).unsqueeze(0)
    x = vectors - centre
    longest = x.square().sum(1).max() if len(x) else x.new_ones(())
    rate = 1 / ((longest + 1) / 2 + decay)
    classes = targets.shape[1]
    weights, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    ahead_w, ahead_b, momentum = weights, bias, 1.0
    for _ in range(steps):
        error = ((x @ ahead_w.T + ahead_b).softmax(1) * mass[:, None] - targets) / total  # S x P
        new_w = ahead_w - rate * (error.T @ x + decay * ahead_w)
        new_b = ahead_b - rate * error.sum(0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        factor = (momentum - 1) / following
        ahead_w, ahead_b = new_w + factor * (new_w - weights), new_b + factor * (new_b - bias)
        weights, bias, momentum = new_w, new_b, following
    return weights, bias - (weights @ centre.T)[:, 0]


def shares(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """How much of each cell's pixels are object and background: M x H x W labels to M x 2 x h x w."""
    masks = torch.stack([labels == OBJECT, labels == BACKGROUND], dim=1).float()
    return F.adaptive_avg_pool2d(masks, size)


def default_maps(encoder: Backbone) -> tuple[str, ...]:
    """The last two maps, or the last one of a plain transformer."""
    names = list(encoder.strides)
    plain = len(names) > 1 and len(set(encoder.strides.values())) == 1
    return tuple(names[-1:] if plain else names[-2:])
