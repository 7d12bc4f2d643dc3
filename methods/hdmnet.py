"""HDMNet: Hierarchical Dense Correlation Distillation for Few-Shot Segmentation (CVPR 2023).

A small pyramid transformer looks at query and support apart, stage by stage; matching is left to one cross attention
a stage, between what self-attention found. The correlation maps of coarse stages teach the finer ones in training. A
base learner says what belongs to the classes trained on, as in BAM (`methods/base_learner.py`).

Ours computes what the authors' code computes, with its softmax of the matching over the query's positions. Differences:
non-square maps work; similarities and matching run in chunks, and only over support positions inside the mask (all
others have weight 0); a number of shots other than `shots`, which their code cannot run, is weighed equally.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fssbench.method import EpisodeBatch, Features, MethodInfo, SupportBatch, Term, foreground
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
from methods.blocks import resize
from methods.hdmnet_transformer import STAGES, TOKEN, Answer, Transformer
from methods.pfenet import WIDTH, aligned, best_cosines, conv_relu
from methods.recipes.hdmnet import LITE, PAPER

NAMES = {  # the authors' names of layers, and ours
    "ppm": "base.ppm",
    "cls": "base.cls",
    "base_learnear.2": "base.cls.4",
    "gram_merge": "merging.gram_merge",
    "cls_merge": "merging.cls_merge",
    "transformer.mix_transformer": "transformer",
}


class HDMNetConfig(BaseLearnerConfig):
    """Options of HDMNet; the defaults are the authors' for PASCAL-5i (COCO-20i: size 633)."""


class HDMNet(TwoStageMethod):
    """Hierarchical matching beside a base learner."""

    info = MethodInfo(
        title="HDMNet",
        paper="Hierarchical Dense Correlation Distillation for Few-Shot Segmentation",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2303.14652",
        code="https://github.com/Pbihao/HDMNet",
        backbones=("resnet50", "vgg16_bn"),
        base_learner=True,
    )
    Config = HDMNetConfig
    recipes = {"paper": PAPER, "lite": LITE}
    official_names = NAMES
    encodes_support = False  # support images are masked before the backbone sees them
    config: HDMNetConfig

    def __init__(self, config: HDMNetConfig) -> None:
        super().__init__(config)
        middle = self.encoder.channels["c3"] + self.encoder.channels["c4"]
        self.down_query = nn.Sequential(*conv_relu(middle, 1), nn.Dropout2d(0.5))
        self.down_supp = nn.Sequential(*conv_relu(middle, 1), nn.Dropout2d(0.5))
        self.query_merge = nn.Sequential(nn.Conv2d(2 * WIDTH + 2, TOKEN, 1, bias=False), nn.ReLU())
        self.supp_merge = nn.Sequential(nn.Conv2d(2 * WIDTH, TOKEN, 1, bias=False), nn.ReLU())
        self.transformer = Transformer()
        self.kshot_rw = shot_weigher(config.shots)

    def project(self, features: Features) -> Features:
        """The query's middle feature, and the maps that are compared as they are."""
        middle, described = self.described(features)
        return {"query": self.down_query(middle), **described}

    def described(self, features: Features) -> tuple[Tensor, Features]:
        """The backbone's middle features, and what is compared: last map, base feature, low-level Gram matrix."""
        layer3, layer4 = features["c4"], features["c5"]
        low = aligned(features["c3"], (layer3.shape[2], layer3.shape[3]))
        compared = {"layer4": layer4, "base": self.base.feature(layer4), "gram": gram(low)}
        return torch.cat([layer3, low], dim=1), compared

    def encode_support(self, support: SupportBatch) -> Features:
        """The masked image's prototype, masked maps, Gram matrix, and self-attention's levels."""
        middle, described = self.described(self.encoder(support.pixels * support.foreground))
        feature = self.down_supp(middle)
        size = (feature.shape[2], feature.shape[3])
        soft = aligned(support.foreground, size)
        vector = (feature.float() * soft).sum((2, 3)) / (soft.sum((2, 3)) + 0.0005)
        tiled = vector[..., None, None].expand_as(feature).to(feature.dtype)
        levels = self.transformer.levels(self.supp_merge(torch.cat([feature, tiled], dim=1)))
        inside = F.interpolate(support.foreground, size, mode="nearest").to(feature.dtype)
        return {
            "vector": vector,
            "layer4": described["layer4"] * inside,
            "base": described["base"] * inside,
            "gram": described["gram"],
            **{f"level{stage}": level for stage, level in enumerate(levels)},
        }

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Scores at the resolution of layer 3, B x 2 x h x w."""
        base = self.base.classify(episodes.query["base"])
        return self.merge(self.meta(episodes).logits, self.trust(episodes), base_map(base))

    def merge(self, logits: Tensor, psi: Tensor, base: Tensor) -> Tensor:
        """The ensemble's scores of meta logits, adjustment factor, and base map."""
        scores: Tensor = self.merging(logits, psi, aligned(base, (logits.shape[2], logits.shape[3])))
        return scores

    def trust(self, episodes: EpisodeBatch) -> Tensor:
        """The adjustment factor, B: the query's mean distance from the shots.

        As in the authors' code, weights that belong to the sorted distances meet them in the order of the shots.
        """
        distances = self.distances(episodes)
        if self.kshot_rw is None or distances.shape[1] != self.config.shots:
            return distances.mean(1)
        scores, _ = shot_scores(self.kshot_rw, distances)
        return (scores.softmax(1) * distances).sum(1)

    def distances(self, episodes: EpisodeBatch) -> Tensor:
        """How differently the query and each shot look, B x K."""
        return gram_distance(episodes.query["gram"], episodes.support["gram"][:, 0])

    def similarity(self, episodes: EpisodeBatch) -> Tensor:
        """Best cosines of base feature and last map with the masked supports, means over the shots: B x 2 x h x w."""
        query = episodes.query["query"]
        found = [
            best_cosines(episodes.query[name], episodes.support[name][:, 0]).mean(1) for name in ("base", "layer4")
        ]
        return aligned(torch.stack(found, dim=1), (query.shape[2], query.shape[3]))

    def merged(self, episodes: EpisodeBatch, similarity: Tensor) -> Tensor:
        """Query feature, prototype and similarity as one map, B x 64 x h x w."""
        query = episodes.query["query"]
        vector = episodes.support["vector"][:, 0].mean(1)[..., None, None].expand_as(query)
        parts = [query, vector.to(query.dtype), 10 * similarity.to(query.dtype)]
        merged: Tensor = self.query_merge(torch.cat(parts, dim=1))
        return merged

    def meta(self, episodes: EpisodeBatch) -> Answer:
        """The transformer's answer."""
        similarity = self.similarity(episodes)
        query = self.transformer.levels(self.merged(episodes, similarity))
        support = [episodes.support[f"level{stage}"][:, 0] for stage in STAGES]
        masks = foreground(episodes.support_labels[:, 0])
        return self.transformer.match(query, support, masks, similarity, self.work_bytes)

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Cross entropies, means over pixels that are not void, of the ensemble and the transformer together (`main`)
        and of the frozen base learner (`base`, which reaches no trained parameter), and the `distillation`."""
        labels, classes, base_labels = needed(episodes)
        base, answer = self.base.classify(episodes.query["base"]), self.meta(episodes)
        final = self.merge(answer.logits, self.trust(episodes), base_map(base, classes))

        main, meta = self.entropy(final, episodes), self.entropy(answer.logits, episodes)
        return {
            "main": Term(main.total + meta.total, main.count),
            "distillation": torch.stack(distillations(labels, answer.correlations)).sum() / 3,
            "base": self._base_entropy(base, base_labels),
        }


def distillations(labels: Tensor, correlations: list[Tensor]) -> list[Tensor]:
    """The label teaches the coarsest correlation map, which teaches the next finer one, and so on; B x h x w each."""
    # Only cells whose four source pixels all show the object share the label's mass.
    label = torch.where(labels == 1, 1.0, -1e9).to(correlations[-1].dtype)
    chain = [label, *reversed(correlations)]
    return [distilled(teacher.detach(), student) for teacher, student in pairwise(chain)]


def distilled(teacher: Tensor, student: Tensor) -> Tensor:
    """Divergence of two maps' softmax over positions, the teacher brought to the student's size; B x h x w each."""
    teacher = resize(teacher.unsqueeze(1), (student.shape[1], student.shape[2])).flatten(1).softmax(1)
    student = student.flatten(1).softmax(1)
    return (teacher * ((teacher + 1e-12).log() - (student + 1e-12).log())).sum(1).mean()
