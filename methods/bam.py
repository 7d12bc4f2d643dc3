"""BAM: Learning What Not to Segment, a base and a meta learner (CVPR 2022).

A few-shot learner is drawn to the classes it was trained on. A base learner that knows these classes says what not to
segment; how alike query and support look (the difference of their Gram matrices) says how far to trust the meta
learner, which is PFENet's prior and support vector in front of ASPP.

Ours computes what the authors' code computes, on their base learner (`methods/base_learner.py`). Differences:
non-square maps work; the prior compares in chunks, and only with support positions inside the mask; a number of shots
other than `shots`, which their code cannot run, is weighed equally. K > 1 by `shots=K` is a model of its own, as
theirs: `kshot_rw` has weights for exactly K shots.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fssbench.method import (
    EpisodeBatch,
    Features,
    MethodInfo,
    SupportBatch,
    Term,
)
from methods.base_learner import (
    BaseLearnerConfig,
    TwoStageMethod,
    base_map,
    gram,
    gram_distance,
    needed,
    shot_scores,
    shot_weigher,
)
from methods.dense_comparison import ASPP
from methods.pfenet import WIDTH, aligned, classifier, conv_relu, pair, prior_mask, together
from methods.recipes.bam import LITE, PAPER

NAMES = {  # the authors' names of layers, and ours
    "learner_base.0": "base.ppm",
    "learner_base.1": "base.cls",
    "gram_merge": "merging.gram_merge",
    "cls_merge": "merging.cls_merge",
    **{f"ASPP_meta.layer6_{branch}": f"aspp.branches.{branch}" for branch in range(5)},
}


class BAMConfig(BaseLearnerConfig):
    """Options of BAM; the defaults are the authors' for PASCAL-5i (COCO-20i: size 641)."""

    width: int = Field(WIDTH, ge=1, description="channels of every map in the meta learner")


class BAM(TwoStageMethod):
    """Meta learner, base learner, ensemble."""

    info = MethodInfo(
        title="BAM",
        paper="Learning What Not to Segment: A New Perspective on Few-Shot Segmentation",
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2203.07615",
        code="https://github.com/chunbolang/BAM",
        backbones=("resnet50", "vgg16_bn"),
        base_learner=True,
    )
    Config = BAMConfig
    recipes = {"paper": PAPER, "lite": LITE}
    official_names = NAMES
    fit = "pad"
    config: BAMConfig

    def __init__(self, config: BAMConfig) -> None:
        super().__init__(config)
        width, middle = config.width, self.encoder.channels["c3"] + self.encoder.channels["c4"]
        self.down_query = nn.Sequential(*conv_relu(middle, 1, width), nn.Dropout2d(0.5))
        self.down_supp = nn.Sequential(*conv_relu(middle, 1, width), nn.Dropout2d(0.5))
        self.init_merge = nn.Sequential(*conv_relu(2 * width + 1, 1, width))
        self.aspp = ASPP(width, dropout=0)
        for branch in self.aspp.branches:
            nn.init.kaiming_normal_(branch[0].weight)  # type: ignore[index]
        self.res1_meta = nn.Sequential(*conv_relu(5 * width, 1, width))
        self.res2_meta = pair(width)
        self.cls_meta = classifier(width)
        self.kshot_rw = shot_weigher(config.shots)

    def train(self, mode: bool = True) -> BAM:
        """As `TwoStageMethod`; in training nothing is cached, so that the last stage runs only where it is used."""
        super().train(mode)
        self.encoder.last = "c4" if mode else None
        return self

    def train_base(self) -> BAM:
        """As `TwoStageMethod`, with the last stage."""
        super().train_base()
        self.encoder.last = None
        return self

    def project(self, features: Features) -> Features:
        """Middle features as query and as support, the low-level Gram matrix, and what the base learner sees."""
        layer3 = features["c4"]
        low = aligned(features["c3"], (layer3.shape[2], layer3.shape[3]))
        middle = torch.cat([layer3, low], dim=1)
        projected = {"query": self.down_query(middle), "support": self.down_supp(middle)}
        projected |= {"layer3": layer3, "gram": gram(low)}
        return projected | (
            {"layer4": features["c5"], "base": self.base_logits(features["c5"])} if "c5" in features else {}
        )

    def encode_support(self, support: SupportBatch) -> Features:
        """The masked mean of the support feature, M x C, masked high-level features, and the Gram matrix."""
        feature, layer3 = support.features["support"], support.features["layer3"]
        mask = aligned(support.foreground, (layer3.shape[2], layer3.shape[3]))
        vector = (feature.float() * mask).sum((2, 3)) / (mask.sum((2, 3)) + 0.0005)
        layer4 = self.encoder.stage("c5", layer3 * mask.to(layer3.dtype))
        layer4 = layer4 * aligned(mask, (layer4.shape[2], layer4.shape[3])).to(layer4.dtype)
        return {"vector": vector.to(feature.dtype), "layer4": layer4, "gram": support.features["gram"]}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Scores at the resolution of layer 3, B x 2 x h x w."""
        layer4, base = self.deep(episodes)
        weights, psi = self.trust(episodes)
        return self.merge(self.meta(episodes, layer4, weights), psi, base_map(base))

    def merge(self, logits: Tensor, psi: Tensor, base: Tensor) -> Tensor:
        """The ensemble's scores of meta logits, adjustment factor, and base map."""
        scores: Tensor = self.merging(logits, psi, aligned(base, (logits.shape[2], logits.shape[3])))
        return scores

    def deep(self, episodes: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """The query's last map and base logits, computed now where they were not before (in training)."""
        if "base" in episodes.query:
            return episodes.query["layer4"], episodes.query["base"]
        layer4 = self.encoder.stage("c5", episodes.query["layer3"])
        return layer4, self.base_logits(layer4)

    def trust(self, episodes: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """The weights of the shots, B x K, and the adjustment factor, B: their mean distance from the query."""
        distances = gram_distance(episodes.query["gram"], episodes.support["gram"][:, 0])
        weights = torch.full_like(distances, 1 / distances.shape[1])
        if self.kshot_rw is not None and distances.shape[1] == self.config.shots:
            scores, order = shot_scores(self.kshot_rw, distances)
            weights = scores.gather(1, order.argsort(1)).softmax(1)
        return weights, (weights * distances).sum(1)

    def meta(self, episodes: EpisodeBatch, layer4: Tensor, weights: Tensor) -> Tensor:
        """The meta learner's logits, B x 2 x h x w."""
        found: Tensor = self.cls_meta(self.compared(self.merged(episodes, layer4, weights))[1])
        return found

    def merged(self, episodes: EpisodeBatch, layer4: Tensor, weights: Tensor) -> Tensor:
        """Query feature, support vector and prior as one map, B x C x h x w."""
        query, prior = episodes.query["query"], self.prior(episodes, layer4, weights)
        vector = self.vector(episodes, weights)[..., None, None].expand(-1, -1, *query.shape[2:])
        merged: Tensor = self.init_merge(torch.cat([query, vector.to(query.dtype), prior.to(query.dtype)], dim=1))
        return merged

    def vector(self, episodes: EpisodeBatch, weights: Tensor) -> Tensor:
        """The weighted mean of the shots' vectors, B x C."""
        return torch.einsum("bk,bkc->bc", weights, episodes.support["vector"][:, 0].float())

    def prior(self, episodes: EpisodeBatch, layer4: Tensor, weights: Tensor) -> Tensor:
        """The weighted mean of the shots' prior masks, B x 1 x h x w."""
        layer3 = episodes.query["layer3"]
        each = prior_mask(layer4, episodes.support["layer4"][:, 0])
        each = aligned(each, (layer3.shape[2], layer3.shape[3]))
        return torch.einsum("bk,bkhw->bhw", weights, each.float()).unsqueeze(1)

    def compared(self, merged: Tensor) -> tuple[Tensor, Tensor]:
        """The five branches of ASPP, B x C x h x w or 1 x 1 each, and the feature that is classified."""
        branches = self.aspp(merged)
        feature = together(self.res1_meta, branches, (merged.shape[2], merged.shape[3]))
        return branches, feature + self.res2_meta(feature)

    def losses(self, episodes: EpisodeBatch) -> dict[str, Term]:
        """Cross entropies, means over pixels that are not void, of the ensemble (`main`), the meta learner (`aux1`)
        and the frozen base learner (`aux2`, which reaches no trained parameter)."""
        _, classes, base_labels = needed(episodes)
        layer4, base = self.deep(episodes)
        weights, psi = self.trust(episodes)
        meta = self.meta(episodes, layer4, weights)
        final = self.merge(meta, psi, base_map(base, classes))

        return {
            "main": self.entropy(final, episodes),
            "aux1": self.entropy(meta, episodes),
            "aux2": self._base_entropy(base, base_labels),
        }
