"""FSIL: Few-Shot Semantic Segmentation Augmented with Image-Level Weak Annotations (Lei et al., 2020).

PANet whose class prototypes are improved by auxiliary images of which only the class is known: a prototype finds its
object in them, the soft average of what it found is added to the prototype, and so on for a few rounds.

No code was published. Our reading, where the paper as we know it leaves a choice:
- encoder, initial prototypes and scores are PANet's; its alignment loss is a switch, off (`alignment`);
- the soft mask of an auxiliary image is the probability of its class against the background, as the image-level
  label names no other (`soft_mask=softmax`), or the cosine rescaled to 0..1 (`cosine`);
- the distilled average drops pixels at a cosine distance above `tau` and is taken over all images of a class at once,
  so that an image without a pixel within `tau` contributes nothing; if nothing is left the prototype stays;
- each of `iterations` rounds adds the auxiliary prototype to the support's (`fuse_with=original`) or to the last
  round's (`previous`). Under the cosine a sum is as good as a mean;
- support and query loss are cross entropies under the last round's prototypes, summed, void and other ways' support
  pixels left out.
Without auxiliary images, or with no iterations, it segments exactly as PANet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fssbench.method import BACKGROUND, OBJECT, VOID, EpisodeBatch, Method, MethodInfo, Term
from methods.blocks import cosine_scores, cross_entropy, resize
from methods.panet import PANet, PANetConfig
from methods.recipes.panet import FSIL_LITE, FSIL_PAPER


class FSILConfig(PANetConfig):
    """Options of FSIL: PANet's and those of the fusion module."""

    alignment: float = Field(0.0, ge=0, description="weight of PANet's prototype alignment loss")
    iterations: int = Field(2, ge=0, description="rounds of the fusion module; 0 leaves auxiliary images out")
    tau: float = Field(0.5, ge=0, le=2, description="largest cosine distance of a pixel that counts; 2 keeps all")
    soft_mask: Literal["softmax", "cosine"] = Field("softmax", description="of an auxiliary image")
    fuse_with: Literal["original", "previous"] = Field("original", description="prototype, in every round")


class FSIL(PANet):
    """PANet with prototypes augmented by images that are known by class only."""

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
        annotations=("mask", "scribble", "box"),
        supervision="mask + image-level labels",
        max_ways=None,
        uses_auxiliary=True,
    )
    Config: ClassVar[type[PANetConfig]] = FSILConfig
    recipes = {"paper": FSIL_PAPER, "lite": FSIL_LITE}
    config: FSILConfig

    def prototypes(self, episodes: EpisodeBatch) -> Tensor:
        """PANet's prototypes after the last round of fusion, background first: B x (1 + N) x C."""
        initial = super().prototypes(episodes)
        auxiliary = None if episodes.auxiliary is None else episodes.auxiliary["feature"]
        if auxiliary is None or auxiliary.shape[2] == 0:
            return initial
        background, original = initial[:, :1], initial[:, 1:]
        current = original
        for _ in range(self.config.iterations):
            found = self.auxiliary_prototypes(auxiliary, background, current)
            current = found + (original if self.config.fuse_with == "original" else current)
        return torch.cat([background, current], dim=1)

    def auxiliary_prototypes(self, auxiliary: Tensor, background: Tensor, current: Tensor) -> Tensor:
        """What the ways' prototypes find in their auxiliary images.

        Features B x N x A x C x h x w, background B x 1 x C, ways B x N x C -> B x N x C.
        """
        positions = auxiliary.transpose(2, 3).flatten(3).flatten(0, 1).unsqueeze(3)  # (B N) x C x (A h w) x 1
        vectors = torch.stack([background.expand_as(current), current], dim=2).flatten(0, 1)  # (B N) x 2 x C
        cosines = cosine_scores(positions, vectors)
        if self.config.soft_mask == "softmax":
            mask = (self.config.scale * cosines).softmax(1)[:, 1]
        else:
            mask = (1 + cosines[:, 1]) / 2
        return distilled_average(positions, mask, cosines[:, 1], self.config.tau).reshape(current.shape)

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """L_sup and L_qry: the augmented prototypes have to segment the supports as well as the query."""
        return super().losses(episodes) | {"support": self.support_loss(episodes)}

    def support_loss(self, episodes: EpisodeBatch) -> Term:
        """L_sup: mean cross entropy of the support pixels that are background or their way's object."""
        features = self.support_features(episodes).flatten(0, 2)
        prototypes = self.prototypes(episodes).repeat_interleave(len(features) // episodes.size[0], dim=0)
        targets = support_targets(episodes.support_labels).flatten(0, 2)
        scores = resize(self.config.scale * cosine_scores(features, prototypes), (targets.shape[1], targets.shape[2]))
        return cross_entropy(scores, targets)

    def support_features(self, episodes: EpisodeBatch) -> Tensor:
        """B x N x K x C x h x w; encoded here if `encode_support`, in eval mode, kept only the prototypes."""
        if "feature" in episodes.support:
            return episodes.support["feature"]
        features = self.encode(episodes.support_pixels.flatten(0, 2))["feature"]
        return features.reshape(*episodes.size, *features.shape[1:])

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """There is no checkpoint of FSIL's authors; PANet's is not one."""
        Method.load_official(self, state)


def distilled_average(features: Tensor, mask: Tensor, cosines: Tensor, tau: float, eps: float = 1e-5) -> Tensor:
    """Average, weighted by a soft mask, of the positions at a cosine distance of at most `tau`.

    Features M x C x h x w, mask and cosines M x h x w -> M x C, float32; zeros where no position is left. Gradients
    flow through features and mask; the threshold has none.
    """
    kept = mask * (1 - cosines <= tau)
    with torch.autocast(features.device.type, enabled=False):
        sums = features.float().flatten(2) @ kept.float().flatten(1).unsqueeze(2)
    return sums[:, :, 0] / (kept.float().sum((1, 2)) + eps).unsqueeze(1)


def support_targets(labels: Tensor) -> Tensor:
    """Support labels B x N x K x H x W to targets of the (1 + N)-way loss: 0, the way from 1, or 255 for the rest."""
    ways = torch.arange(1, labels.shape[1] + 1, device=labels.device).view(1, -1, 1, 1, 1)
    return torch.where(labels == OBJECT, ways, torch.where(labels == BACKGROUND, 0, VOID))
