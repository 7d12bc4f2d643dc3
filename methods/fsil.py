"""FSIL: Few-Shot Semantic Segmentation Augmented with Image-Level Weak Annotations (Lei et al., 2020).

A metric method like PANet whose class prototypes are improved by auxiliary images of which only the class is known:
the prototype finds its object in them, a soft average over what it found is added to the prototype, and again.

No code was published. Our reading, where the paper as we know it leaves a choice:
- encoder, prototypes (void counts as background) and scores of PANet: `scale` x cosine, one background prototype;
- the soft mask of an auxiliary image is the probability of its class against the background, as the image-level
  label names no other (`soft_mask=softmax`), or the cosine rescaled to 0..1 (`cosine`);
- the distilled average drops pixels at a cosine distance above `tau` and is taken over all images of a class at once,
  so that an image without a pixel within `tau` contributes nothing; if nothing is left the prototype stays;
- each of `iterations` rounds adds the auxiliary prototype to the support's (`fuse_with=original`) or to the last
  round's (`previous`). Under the cosine a sum is as good as a mean;
- support and query loss are cross entropies under the last round's prototypes, summed with weight 1, without void;
  a support pixel of another way is left out of the support loss.
Without auxiliary images, or with no iterations, this is the plain prototype method, exactly.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fssbench.backbones import Backbone, build_backbone, vgg
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
)
from methods.blocks import cosine_scores, pool_prototypes, resize


class FSILConfig(MethodConfig):
    """Options of FSIL."""

    backbone: str = "vgg16"
    size: tuple[int, int] = (417, 417)
    iterations: int = Field(2, ge=0, description="rounds of the fusion module; 0 leaves auxiliary images out")
    tau: float = Field(0.5, ge=0, le=2, description="largest cosine distance of a pixel that counts; 2 keeps all")
    soft_mask: Literal["softmax", "cosine"] = Field("softmax", description="of an auxiliary image")
    fuse_with: Literal["original", "previous"] = Field("original", description="prototype, in every round")
    scale: float = Field(20.0, gt=0, description="of the cosine before each softmax")


class FSIL(Method):
    """Prototypes augmented by images that are known by class only."""

    info = MethodInfo(
        title="FSIL",
        paper="Few-Shot Semantic Segmentation Augmented with Image-Level Weak Annotations",
        venue="arXiv",
        year=2020,
        url="https://arxiv.org/abs/2007.01496",
        code=None,
        backbones=("vgg16",),
        our_reading=True,
        untrained=True,
        annotations=("mask", "box", "scribble"),
        supervision="mask + image-level labels",
        max_ways=None,
        uses_auxiliary=True,
    )
    Config = FSILConfig
    config: FSILConfig
    encoder: Backbone

    def __init__(self, config: FSILConfig) -> None:
        super().__init__(config)
        self.encoder = encoder_as_panet(config.backbone)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)

    def project(self, features: Features) -> Features:
        """The last stage: B x C x h x w."""
        return {"feature": features["c5"]}

    def encode_support(self, support: SupportBatch) -> Features:
        """`prototypes` of the support's background and object, M x 2 x C; in training its features for the loss."""
        feature = support.features["feature"]
        background = (support.labels == BACKGROUND) | (support.labels == VOID)
        masks = torch.stack([background, support.labels == OBJECT], dim=1).float()
        found = {"prototypes": pool_prototypes(feature, masks)}
        return found | {"feature": feature} if self.training else found

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x (1 + N) x h x w: scaled cosine similarity to the augmented prototypes."""
        return self.config.scale * cosine_scores(episodes.query["feature"], self.augmented(episodes))

    def augmented(self, episodes: EpisodeBatch) -> Tensor:
        """Prototypes after the last round, background first: B x (1 + N) x C."""
        background, original = initial_prototypes(episodes.support["prototypes"])
        current = original
        if episodes.auxiliary is not None and episodes.auxiliary["feature"].shape[2]:
            for _ in range(self.config.iterations):
                found = self.auxiliary_prototypes(episodes.auxiliary["feature"], background, current)
                current = found + (original if self.config.fuse_with == "original" else current)
        return torch.cat([background, current], dim=1)

    def auxiliary_prototypes(self, auxiliary: Tensor, background: Tensor, current: Tensor) -> Tensor:
        """What prototypes find in their auxiliary images.

        Features B x N x A x C x h x w, background B x 1 x C, ways B x N x C -> B x N x C.
        """
        pixels = auxiliary.transpose(2, 3).flatten(3).flatten(0, 1).unsqueeze(-1)  # (B N) x C x (A h w) x 1
        vectors = torch.stack([background.expand_as(current), current], dim=2).flatten(0, 1)  # (B N) x 2 x C
        cosines = cosine_scores(pixels, vectors)
        if self.config.soft_mask == "softmax":
            mask = (self.config.scale * cosines).softmax(1)[:, 1]
        else:
            mask = (1 + cosines[:, 1]) / 2
        found = distilled_average(pixels, mask, cosines[:, 1], self.config.tau)
        return found.reshape(current.shape)

    def loss(self, episodes: EpisodeBatch) -> Tensor:
        """L_sup + L_qry: the augmented prototypes have to segment the supports as well as the query."""
        if episodes.query_labels is None:
            raise ValueError("FSIL.loss expects episodes with query_labels")
        prototypes = self.augmented(episodes)
        query = self.cross_entropy(episodes.query["feature"], prototypes, episodes.query_labels)
        _, n, k = episodes.size
        supports = self.cross_entropy(
            self.support_features(episodes).flatten(0, 2),
            prototypes.repeat_interleave(n * k, dim=0),
            support_targets(episodes.support_labels).flatten(0, 2),
        )
        return supports + query

    def support_features(self, episodes: EpisodeBatch) -> Tensor:
        """B x N x K x C x h x w; encoded anew if `encode_support` ran in eval mode."""
        if "feature" in episodes.support:
            return episodes.support["feature"]
        features = self.encode(episodes.support_pixels.flatten(0, 2))["feature"]
        return features.reshape(*episodes.size, *features.shape[1:])

    def cross_entropy(self, features: Tensor, prototypes: Tensor, labels: Tensor) -> Tensor:
        """Of the upsampled scores against labels M x H x W; mean over the pixels that are not 255."""
        scores = resize(self.config.scale * cosine_scores(features, prototypes), (labels.shape[-2], labels.shape[-1]))
        total = F.cross_entropy(scores, labels, ignore_index=255, reduction="sum")
        return total / (labels != 255).sum().clamp(min=1)


def encoder_as_panet(name: str) -> Backbone:
    """PANet's VGG-16, whose features at stride 8 are signed; any other backbone at output stride 8."""
    if name.startswith("vgg"):
        return vgg(name, strides=(2, 2, 2, 1), pool_kernel=3, dilation5=2, last_relu=False)
    return build_backbone(name, output_stride=8)


def initial_prototypes(pooled: Tensor) -> tuple[Tensor, Tensor]:
    """B x N x K x 2 x C -> background B x 1 x C, the mean over shots and ways; ways B x N x C, the mean over shots."""
    background, ways = pooled.mean(2).unbind(2)
    return background.mean(1, keepdim=True), ways


def distilled_average(features: Tensor, mask: Tensor, cosines: Tensor, tau: float, eps: float = 1e-5) -> Tensor:
    """Soft masked average of the positions at a cosine distance of at most `tau`.

    Features M x C x h x w, soft mask and cosines M x h x w -> M x C; zeros where no position is left. Gradients flow
    through features and mask, the threshold has none.
    """
    kept = mask * (1 - cosines <= tau)
    with torch.autocast(features.device.type, enabled=False):
        sums = features.float().flatten(2) @ kept.float().flatten(1).unsqueeze(2)
    return sums.squeeze(2) / (kept.float().sum((1, 2)) + eps).unsqueeze(1)


def support_targets(labels: Tensor) -> Tensor:
    """Support labels B x N x K x H x W to targets of the (1 + N)-way loss: 0, the way from 1, or 255 for the rest."""
    ways = torch.arange(1, labels.shape[1] + 1, device=labels.device).view(1, -1, 1, 1, 1).expand_as(labels)
    target = torch.full_like(ways, 255).where(labels != BACKGROUND, 0)
    return target.where(labels != OBJECT, ways)
