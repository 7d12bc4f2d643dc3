"""PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment (ICCV 2019).

A prototype each for the background and every way is the mean of the supports' features inside its mask; a query pixel
belongs to the nearest by cosine. In training the query's own prediction must segment the supports in turn.

As in the authors' code: no activation after the last convolution; void pixels of a support count as background; the
alignment term takes its masks from the scores at feature size. Differences: prototypes come from masks brought down
by the adjoint of the upsampling (the same sums); an episode without a valid support pixel has an alignment term of 0
where theirs is NaN. Backbones other than VGG-16 are our reading: their last two stages, each of unit length, side by
side, which needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fssbench.backbones import Backbone, build_backbone, vgg
from fssbench.errors import MethodError
from fssbench.method import (
    BACKGROUND,
    OBJECT,
    VOID,
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
from methods.blocks import VGG_CONVOLUTIONS, cosine_scores, cross_entropy, lengths, pool_prototypes, resize
from methods.recipes.panet import LITE, PAPER


class PANetConfig(MethodConfig):
    """Options of PANet."""

    backbone: str = "vgg16"
    size: tuple[int, int] = (417, 417)
    stages: tuple[str, ...] | None = Field(
        None, description="encoder stages compared, each of unit length if several; None: c5 of VGG, else the last two"
    )
    scale: float = Field(20.0, gt=0, description="factor on the cosine, alpha in the paper")
    alignment: float = Field(1.0, ge=0, description="weight of the prototype alignment loss; 0 leaves it out")
    void_is_background: bool = Field(True, description="support pixels labelled 255 count as background")


class PANet(Method):
    """Nearest prototype by cosine similarity."""

    info = MethodInfo(
        title="PANet",
        paper="PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1908.06391",
        code="https://github.com/kaixin96/PANet",
        backbones=("vgg16",),
        untrained=True,
        annotations=("mask", "scribble", "box"),
        max_ways=None,
    )
    Config = PANetConfig
    recipes = {"paper": PAPER, "lite": LITE}
    config: PANetConfig

    def __init__(self, config: PANetConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = build_encoder(config.backbone)
        self.stages = config.stages or default_stages(self.encoder)
        unknown = sorted(set(self.stages) - set(self.encoder.channels))
        if unknown:
            raise MethodError(f"stages: expected some of {', '.join(self.encoder.channels)}, found {unknown[0]!r}")
        self.encoder.last = max(self.stages)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)

    def project(self, features: Features) -> Features:
        """The compared stages as one map, B x C x h x w, and the length of each of its vectors, B x 1 x h x w."""
        maps = [features[stage] for stage in self.stages]
        if len(maps) > 1:
            size = (maps[0].shape[2], maps[0].shape[3])
            maps = [torch.cat([F.normalize(resize(x, size), dim=1) for x in maps], dim=1)]
        return {"feature": maps[0], "length": lengths(maps[0])}

    def encode_support(self, support: SupportBatch) -> Features:
        """Masked means of foreground and background, M x 2 x C; in training also the map, for the alignment."""
        masks = torch.stack(self.regions(support.labels), dim=1).float()  # M x 2 x H x W
        pooled = {"prototypes": pool_prototypes(support.features["feature"], masks)}
        return pooled | support.features if self.training else pooled

    def regions(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Foreground and background of support labels, bool; other ways' and unlabelled pixels are in neither."""
        background = labels == BACKGROUND
        if self.config.void_is_background:
            background = background | (labels == VOID)
        return labels == OBJECT, background

    def prototypes(self, episodes: EpisodeBatch) -> Tensor:
        """Means over the shots' vectors, B x (1 + N) x C: one background for all ways, then each way."""
        pooled = episodes.support["prototypes"]  # B x N x K x 2 x C
        background = pooled[:, :, :, 1].mean((1, 2)).unsqueeze(1)
        return torch.cat([background, pooled[:, :, :, 0].mean(2)], dim=1)

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Scaled cosine similarities with the prototypes: B x (1 + N) x h x w."""
        query = episodes.query
        return self.config.scale * cosine_scores(query["feature"], self.prototypes(episodes), query.get("length"))

    @property
    def loss_weights(self) -> dict[str, float]:
        """That of the alignment is an option."""
        return {"align": self.config.alignment}

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Cross entropy of the query; in training mode also that of the supports under the query's prototypes."""
        if episodes.query_labels is None:
            raise ValueError("PANet.losses expects episodes with query_labels")
        logits = self.segment(episodes)
        terms: dict[str, Tensor | Term] = {
            "query": cross_entropy(resize(logits, episodes.query_shape), episodes.query_labels)
        }
        if not (self.training and self.config.alignment):
            return terms
        alignment = self.alignment_loss(
            episodes.query["feature"].unsqueeze(1),
            logits.unsqueeze(1),
            episodes.support["feature"],
            episodes.support_labels,
        )
        return terms | {"align": alignment.mean()}

    def alignment_loss(self, query: Tensor, logits: Tensor, support: Tensor, labels: Tensor) -> Tensor:
        """The supports' cross entropy under prototypes of the predicted query masks, one value an episode: B.

        `query` B x Q x C x h x w and its `logits` B x Q x (1 + N) x h x w; `support` B x N x K x C x h x w with
        `labels` B x N x K x H x W. A way that no query pixel is assigned to adds nothing. (Section 3.5 of the paper.)
        """
        b, n, k = labels.shape[:3]
        ways = logits.shape[2]
        assigned = F.one_hot(logits.argmax(2), ways).movedim(-1, 2).to(query.dtype)  # B x Q x (1 + N) x h x w
        area = assigned.sum((1, 3, 4)).unsqueeze(2)  # B x (1 + N) x 1
        prototypes = torch.einsum("bqchw,bqphw->bpc", query, assigned) / (area + 1e-5)
        pairs = torch.stack([prototypes[:, :1].expand(-1, n, -1), prototypes[:, 1:]], dim=2)  # B x N x 2 x C
        pairs = pairs.unsqueeze(2).expand(-1, -1, k, -1, -1).flatten(0, 2)
        scores = self.config.scale * cosine_scores(support.flatten(0, 2), pairs)
        foreground, background = self.regions(labels.flatten(0, 2))
        targets = torch.where(foreground, 1, torch.where(background, 0, VOID))
        full = resize(scores, (labels.shape[-2], labels.shape[-1]))
        pixels = F.cross_entropy(full, targets, ignore_index=VOID, reduction="none")
        each = pixels.sum((1, 2)) / (targets != VOID).sum((1, 2)).clamp_min(1)
        assigned_ways = (area[:, 1:, 0] > 0).to(each.dtype)  # B x N
        loss: Tensor = (each.unflatten(0, (b, n, k)).mean(2) * assigned_ways).mean(1)
        return loss

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a snapshot of the authors' train.py."""
        ours = {
            f"encoder.backbone.features.{2 * block}.{2 * number}.{leaf}": f"encoder.body.features.{index}.{leaf}"
            for (block, number), index in VGG_CONVOLUTIONS.items()
            for leaf in ("weight", "bias")
        }
        load_converted(self, {ours.get(key, key): value for key, value in strip_prefix(state).items()})


def build_encoder(name: str) -> Backbone:
    """VGG-16 with the authors' padded 3x3 pools, dilated block 5 and no last activation; others at stride 8."""
    if name == "vgg16":
        return vgg(name, strides=(2, 2, 2, 1), pool_kernel=3, dilation5=2, last_relu=False)
    return build_backbone(name, output_stride=8)


def default_stages(encoder: Backbone) -> tuple[str, ...]:
    """The last stage of VGG-16, as in the paper; the last two of any other network."""
    return tuple(encoder.channels)[-1:] if encoder.name == "vgg16" else tuple(encoder.channels)[-2:]
