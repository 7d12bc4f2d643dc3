"""PL: Few-Shot Semantic Segmentation with Prototype Learning (Dong & Xing, BMVC 2018).

A prototype learner reduces a masked image to one vector a class. A segmentor adds each class's prototype to its own
features of the query and makes one probability map a class; the maps are weighted by how near the query, masked by
them, comes to the prototypes. The learner has an auxiliary loss: its vectors of the query, softmax over distances.

No code was published. Our reading, where the paper as we know it leaves a choice:
- a mask enters the learner as image times mask, after mean subtraction; background is one more class with the mask
  of pixels that belong to no way, its prototype the mean over shots and ways;
- learner and segmentor are two networks of the same backbone; the learner's is not dilated (`learner_stride`), the
  segmentor's has `output_stride`; ReLU between the sum and the 1x1 convolution;
- distances are squared and Euclidean, divided by the number of channels so that the softmax is soft whatever the
  backbone (`channel_mean`); fusion weights are a softmax over the negative distances (`fusion` scales them);
- one 1x1 convolution for the background and one a way (`ways`; ways beyond it use them in turn), or one for all
  (`shared_head`); in training the ways are dealt to the convolutions anew for every episode (permutation training);
- learner and segmentor are updated together instead of in turn: the gradients of one joint loss are those of the two
  alternating steps, J_seg + `classification_weight` x J_cls for the learner and J_seg for the segmentor;
- only query pixels enter J_seg, void ones excepted; a class that the query lacks is left out of J_cls.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone, build_backbone
from fssbench.method import (
    BACKGROUND,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    Term,
)
from methods.blocks import cross_entropy, each_alone
from methods.recipes.panet import PL_LITE, PL_PAPER


class PLConfig(MethodConfig):
    """Options of PL."""

    backbone: str = "vgg16"
    size: tuple[int, int] = (417, 417)
    ways: int = Field(1, ge=1, description="of training: how many ways have a 1x1 convolution of their own")
    shared_head: bool = Field(False, description="one 1x1 convolution for background and all ways")
    fusion: float = Field(1.0, ge=0, description="scale of distances in the fusion weights; 0 leaves the maps alone")
    channel_mean: bool = Field(True, description="divide squared distances by the number of channels")
    classification_weight: float = Field(1.0, ge=0, description="of the prototype learner's auxiliary loss")
    output_stride: Literal[8, 16, 32] = Field(8, description="of the segmentor")
    learner_stride: Literal[8, 16, 32] = Field(32, description="of the prototype learner")


class PL(Method):
    """Prototypes added to the query's features, one map a class, fused by a second look through the learner."""

    info = MethodInfo(
        title="PL",
        paper="Few-Shot Semantic Segmentation with Prototype Learning",
        venue="BMVC",
        year=2018,
        url="http://bmvc2018.org/contents/papers/0255.pdf",
        code=None,
        backbones=("vgg16",),
        our_reading=True,
        max_ways=None,
    )
    Config = PLConfig
    recipes = {"paper": PL_PAPER, "lite": PL_LITE}
    encodes_support = False
    config: PLConfig
    encoder: Backbone

    def __init__(self, config: PLConfig) -> None:
        super().__init__(config)
        self.encoder = build_backbone(config.backbone, config.output_stride)
        self.learner = build_backbone(config.backbone, config.learner_stride)
        self.heads = nn.Conv2d(self.encoder.channels["c5"], 1 if config.shared_head else 1 + config.ways, 1)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)

    def project(self, features: Features) -> Features:
        """The segmentor's features of the query: B x C x h x w."""
        return {"feature": features["c5"]}

    def learn(self, images: Tensor, masks: Tensor) -> Tensor:
        """f_theta: M x 3 x H x W and M x H x W in 0..1 -> M x C, the mean of the masked image's features."""
        return each_alone(self._learnt, images, masks)

    def _learnt(self, images: Tensor, masks: Tensor) -> Tensor:
        maps: Tensor = self.learner(images * masks.unsqueeze(1).to(images.dtype))["c5"]
        return maps.mean((2, 3))

    def encode_support(self, support: SupportBatch) -> Features:
        """The learner's vectors of the support's object and of its background: M x C each."""
        masks = torch.cat([support.foreground[:, 0], (support.labels == BACKGROUND).float()])
        foreground, background = self.learn(support.pixels.repeat(2, 1, 1, 1), masks).chunk(2)
        return {"foreground": foreground, "background": background}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x (1 + N) x H x W: the logarithm of probability map times fusion weight, up to a constant a pixel."""
        found = prototypes(episodes.support)
        scores = self.scores(episodes.query["feature"], found, self.deal(*episodes.size[:2]))
        scores = F.interpolate(scores, episodes.query_shape, mode="bilinear", align_corners=False)
        log_maps = scores.log_softmax(1)
        if self.config.fusion == 0:
            return log_maps
        seen = self.learn_each(episodes.query_pixels, log_maps.exp())
        distances = self.distances(seen, found).diagonal(dim1=1, dim2=2)
        return log_maps + log_fusion_weights(self.config.fusion * distances)[..., None, None]

    def scores(self, query: Tensor, found: Tensor, heads: Tensor) -> Tensor:
        """Query B x C x h x w, prototypes B x P x C, which head each goes to B x P -> scores B x P x h x w."""
        summed = F.relu(query.unsqueeze(1) + found[..., None, None])  # un-pooled prototypes added: B x P x C x h x w
        weight, bias = self.heads.weight[:, :, 0, 0][heads], self._bias()[heads]
        return torch.einsum("bpchw,bpc->bphw", summed, weight) + bias[..., None, None]

    def deal(self, episodes: int, ways: int) -> Tensor:
        """The head of background and of each way: B x (1 + N). Ways are in order at test, shuffled in training."""
        device, own = self.heads.weight.device, self.config.ways
        if self.config.shared_head:
            return torch.zeros(episodes, 1 + ways, dtype=torch.long, device=device)
        if self.training:
            order = torch.rand(episodes, max(ways, own), device=device).argsort(1)[:, :ways]
        else:
            order = torch.arange(ways, device=device).expand(episodes, ways)
        return F.pad(1 + order % own, (1, 0))

    def learn_each(self, images: Tensor, masks: Tensor) -> Tensor:
        """The learner's vector of every image under each of its masks: B x P x H x W -> B x P x C."""
        repeated = images.unsqueeze(1).expand(-1, masks.shape[1], -1, -1, -1)
        vectors = self.learn(repeated.flatten(0, 1), masks.flatten(0, 1))
        return vectors.reshape(*masks.shape[:2], -1)

    def distances(self, vectors: Tensor, found: Tensor) -> Tensor:
        """Squared Euclidean distances of B x M x C and B x P x C: B x M x P."""
        squared = squared_distances(vectors, found)
        return squared / vectors.shape[-1] if self.config.channel_mean else squared

    @property
    def loss_weights(self) -> dict[str, float]:
        """That of J_cls is an option."""
        return {"classification": self.config.classification_weight}

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """J_seg, the query's cross entropy without void pixels, and J_cls."""
        if episodes.query_labels is None:
            raise ValueError("PL.losses expects episodes with query_labels")
        return {
            "segmentation": cross_entropy(self.segment(episodes), episodes.query_labels),
            "classification": self.classification_loss(episodes),
        }

    def classification_loss(self, episodes: EpisodeBatch) -> Tensor:
        """J_cls: the query under each class's true mask should be nearest to that class's prototype."""
        if episodes.query_labels is None:
            raise ValueError("PL.classification_loss expects episodes with query_labels")
        classes = torch.arange(1 + episodes.size[1], device=episodes.query_labels.device)
        masks = episodes.query_labels.unsqueeze(1) == classes.view(1, -1, 1, 1)  # B x P x H x W
        vectors = self.learn_each(episodes.query_pixels, masks.float())
        return metric_softmax_loss(self.distances(vectors, prototypes(episodes.support)), masks.any(-1).any(-1))

    def _bias(self) -> Tensor:
        if self.heads.bias is None:
            raise RuntimeError("the heads have biases")
        return self.heads.bias


def prototypes(support: Features) -> Tensor:
    """Mean over shots; background also over ways, first: B x N x K x C each -> B x (1 + N) x C."""
    background = support["background"].mean((1, 2)).unsqueeze(1)
    return torch.cat([background, support["foreground"].mean(2)], dim=1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """B x M x C and B x P x C -> B x M x P, squared Euclidean."""
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1)


def metric_softmax_loss(distances: Tensor, present: Tensor) -> Tensor:
    """Negative log-likelihood of a softmax over negative distances, B x P x P, row i belonging to class i.

    The mean over rows that are `present` (B x P); 0 if none is.
    """
    likelihood = (-distances).log_softmax(-1).diagonal(dim1=1, dim2=2)
    return -(likelihood * present).sum() / present.sum().clamp(min=1)


def log_fusion_weights(distances: Tensor) -> Tensor:
    """Log of (1 + N) x softmax over -d(v_n, p_n): B x P -> B x P. Equal distances give weights of 1."""
    return (-distances).log_softmax(1) + math.log(distances.shape[1])
