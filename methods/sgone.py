"""SG-One: Similarity Guidance Network for One-Shot Semantic Segmentation (arXiv 2018, IEEE Trans. Cybernetics 2020).

The mean of the support's guidance features inside its mask is compared with every query position; the cosine map
scales the features of a separate segmentation branch, which a small head turns into logits.

As in the authors' code: VGG-16 with padded 3x3 pools and no dilation; the last 1x1 convolution is padded, so that
logits are two larger than the features each way; images keep their size, and test images are RGB (the authors train
on BGR); K shots by the mean of the vectors (`avg`) or the union of K masks (`max`). Differences: the vector comes from
the mask brought down by the adjoint of the upsampling (the same sums); an empty mask gives a zero vector where theirs
gives NaN; void pixels are left out of the loss, where theirs are foreground. Backbones other than VGG-16 give their
stages 3 to 5 at stride 8, which is our reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone, Needs, build_backbone, vgg
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
    strongest,
)
from methods.blocks import VGG_CONVOLUTIONS, cosine_scores, cross_entropy, pool_prototypes, resize
from methods.recipes.sgone import LITE, PAPER

WIDTH = 128  # channels of the segmentation branch


class SGOneConfig(MethodConfig):
    """Options of SG-One."""

    backbone: str = "vgg16"
    size: tuple[int, int] | None = Field(None, description="squash images to this; None: their own size, as published")
    fusion: Literal["avg", "max"] = Field("avg", description="of K shots: mean of vectors, or union of K masks")
    guidance_channels: int = Field(512, ge=1, description="channels of the branch that similarity is taken on")


class SGOne(Method):
    """Similarity with the support's mean guides a segmentation branch."""

    info = MethodInfo(
        title="SG-One",
        paper="SG-One: Similarity Guidance Network for One-Shot Semantic Segmentation",
        venue="T-Cyb",
        year=2020,
        url="https://arxiv.org/abs/1810.09091",
        code="https://github.com/xiaomengyc/SG-One",
        backbones=("vgg16",),
        annotations=("mask", "box"),
    )
    Config = SGOneConfig
    recipes = {"paper": PAPER, "lite": LITE}
    config: SGOneConfig

    def __init__(self, config: SGOneConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = build_encoder(config.backbone)
        middle, upper, last = (self.encoder.channels[stage] for stage in ("c3", "c4", "c5"))
        fit: Literal["squash", "native"] = "native" if config.size is None else "squash"
        self.query_input = Preprocess(config.size, fit, mean=self.encoder.mean, std=self.encoder.std)
        self.guidance = nn.Conv2d(last, config.guidance_channels, 3, padding=1)
        self.side3 = nn.Conv2d(middle, WIDTH, 3, padding=1)
        self.side4 = nn.Conv2d(WIDTH + upper, WIDTH, 3, padding=1)
        self.side5 = nn.Conv2d(WIDTH + last, WIDTH, 3, padding=1)
        self.classify = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.exit = nn.Conv2d(WIDTH, 2, 1, padding=1)
        for layer in (self.guidance, self.side3, self.side4, self.side5):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias) if layer.bias is not None else None

    def project(self, features: Features) -> Features:
        """`guidance`, which similarity is taken on, and `segmentation`, which it scales: B x C x h x w each."""
        middle, upper, last = (features[stage] for stage in ("c3", "c4", "c5"))
        size = (last.shape[2], last.shape[3])
        x = F.relu(self.side3(resize(middle, size)))
        x = F.relu(self.side4(torch.cat([x, resize(upper, size)], dim=1)))
        return {"guidance": self.guidance(last), "segmentation": self.side5(torch.cat([x, last], dim=1))}

    def encode_support(self, support: SupportBatch) -> Features:
        """The guidance vector, the mean inside the mask: M x C."""
        return {"vector": pool_prototypes(support.features["guidance"], support.foreground, eps=1e-8)[:, 0]}

    def vectors(self, episodes: EpisodeBatch) -> Tensor:
        """The vectors that make a mask each: B x S x C, S being K for `max`, else 1."""
        vectors = episodes.support["vector"][:, 0]  # B x K x C
        return vectors if self.config.fusion == "max" else vectors.mean(1, keepdim=True)

    def similarity(self, episodes: EpisodeBatch) -> Tensor:
        """Cosine maps, B x S x h x w, each in [-1, 1]."""
        return cosine_scores(episodes.query["guidance"], self.vectors(episodes))

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x (h + 2) x (w + 2), with the border of the padded exit; for `max` B x K x 2 x (h + 2) x (w + 2)."""
        similarity = self.similarity(episodes)
        guided = episodes.query["segmentation"].unsqueeze(1) * similarity.unsqueeze(2)  # B x S x C x h x w
        logits: Tensor = self.exit(F.relu(self.classify(guided.flatten(0, 1))))
        logits = logits.unflatten(0, similarity.shape[:2])
        return logits if self.config.fusion == "max" else logits[:, 0]

    def decide(self, logits: Tensor) -> Tensor:
        """Argmax; with `max`, a pixel is foreground if any shot says so."""
        return strongest(logits, 2).amax(1) if self.config.fusion == "max" else strongest(logits, 1)

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Mean cross entropy of the upsampled logits; each shot's own under `max`."""
        if episodes.query_labels is None:
            raise ValueError("SGOne.losses expects episodes with query_labels")
        logits = self.segment(episodes)
        labels = episodes.query_labels
        if self.config.fusion == "max":
            labels = labels.repeat_interleave(logits.shape[1], dim=0)
            logits = logits.flatten(0, 1)
        return {"main": cross_entropy(resize(logits, episodes.query_shape), labels)}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a snapshot of the authors' `onemodel_sg-one`."""
        modules = {
            f"netB.features_{block + 1}.{2 * number}": f"encoder.body.features.{index}"
            for (block, number), index in VGG_CONVOLUTIONS.items()
        }
        modules |= {"netB.cls.0": "guidance", "classifier_6.0": "classify", "exit_layer": "exit"}
        modules |= {f"netB.side{i}_1.0": f"side{i}" for i in (3, 4, 5)}
        ours = {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in ("weight", "bias")}
        load_converted(self, {ours.get(key, key): value for key, value in strip_prefix(state).items()})


def build_encoder(name: str) -> Backbone:
    """VGG-16 with the authors' padded 3x3 pools, a fifth one of stride 1 at its end, and no dilation."""
    if name == "vgg16":
        return vgg(name, strides=(2, 2, 2, 1), pool_kernel=3, dilation5=1, fifth_pool=True, pools_last=True)
    return build_backbone(name, 8, needs=Needs(("c3", "c4", "c5")))
