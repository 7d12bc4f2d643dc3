"""A method of one's own with a layer to learn: prototypes as `new-method` writes them, in a learnt space.

`docs/adding-a-method.md` shows this file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fssbench.backbones import Needs, build_backbone
from fssbench.method import EpisodeBatch, Features, Method, MethodConfig, MethodInfo, Preprocess, SupportBatch, Term
from methods.blocks import cosine_scores, cross_entropy, pool_prototypes, resize
from methods.recipes.lite import lite


class LearntSpaceConfig(MethodConfig):
    """Options; each goes by --set NAME=VALUE."""

    backbone: str = "efficientnet_lite0"
    size: tuple[int, int] = (129, 129)
    width: int = 64


class LearntSpace(Method):
    """Cosine similarity with the mean of the support inside its mask, after a 1x1 convolution."""

    info = MethodInfo(
        title="LearntSpace", paper="unpublished", venue="none", year=2026, url="", code=None,
        backbones=("efficientnet_lite0",), max_ways=None,
    )  # fmt: skip
    Config = LearntSpaceConfig
    recipes = {"lite": lite()}  # the encoder stays as ImageNet left it; what else there is learns

    def __init__(self, config: LearntSpaceConfig) -> None:
        super().__init__(config)
        self.encoder = build_backbone(config.backbone, output_stride=8, stages=4, needs=Needs(("c4",)))
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)
        self.space = nn.Conv2d(self.encoder.channels["c4"], config.width, 1)

    def project(self, features: Features) -> Features:
        """The space in which queries and supports are compared, B x width x h x w."""
        return {"space": self.space(features["c4"])}

    def encode_support(self, support: SupportBatch) -> Features:
        """Background and object prototypes of each support, M x 2 x width."""
        masks = torch.cat([(support.labels == 0).float().unsqueeze(1), support.foreground], dim=1)
        return {"prototypes": pool_prototypes(support.features["space"], masks)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits, B x (1 + N) x h x w: the mean over shots, and for the background over ways."""
        background, ways = episodes.support["prototypes"].mean(2).unbind(2)  # B x N x width each
        vectors = torch.cat([background.mean(1, keepdim=True), ways], dim=1)
        return 20 * cosine_scores(episodes.query["space"], vectors)

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Cross entropy over all pixels that are not void."""
        assert episodes.query_labels is not None
        return {"main": cross_entropy(resize(self.segment(episodes), episodes.query_shape), episodes.query_labels)}
