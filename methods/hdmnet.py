"""HDMNet: Hierarchical Dense Correlation Distillation for Few-Shot Segmentation (CVPR 2023).

A small pyramid transformer looks at query and support apart, stage by stage; matching is left to one cross attention
a stage, between what self-attention found. The correlation maps of coarse stages teach the finer ones in training. A
base learner says what belongs to the classes trained on, as in BAM (`methods/base_learner.py`).

Ours computes what the authors' code computes, with its softmax of the matching over the query's positions. Differences:
non-square maps work; similarities and matching run in chunks, and only over support positions inside the mask (all
others have weight 0); a number of shots other than `shots`, which their code cannot run, is weighed equally.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fssbench.method import (
    EpisodeBatch,
    Features,
    MethodInfo,
    SupportBatch,
    Term,
    foreground,
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
from methods.blocks import resize
from methods.pfenet import WIDTH, aligned, best_cosines, conv_relu
from methods.positions import positions_first
from methods.recipes.hdmnet import LITE, PAPER

TOKEN = 64  # channels of everything in the transformer
HEADS = (2, 4, 8)  # of self-attention, by stage
REDUCTIONS = (4, 2, 1)  # of the maps that keys and values of self-attention come from, by stage
STAGES = range(len(HEADS))
TEMPERATURE = 0.1  # of the cosines of the matching
norm = partial(nn.LayerNorm, eps=1e-6)
NAMES = {  # the authors' names of layers, and ours
    "ppm": "base.ppm",
    "cls": "base.cls",
    "base_learnear.2": "base.cls.4",
    "gram_merge": "merging.gram_merge",
    "cls_merge": "merging.cls_merge",
    "transformer.mix_transformer": "transformer",
}


class HDMNetConfig(BaseLearnerConfig):
    """Options of HDMNet; the defaults are the authors' for PASCAL-5i (COCO-20i: size 633, base_classes 60)."""


class Projections(nn.Module):
    """The four linear layers of an attention, without bias; heads are slices of the channels."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_o = (
            nn.Linear(TOKEN, TOKEN, bias=False) for _ in range(4)
        )

    def split(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens B x Q x C and B x S x C -> q, k, v, each B x heads x tokens x C / heads."""
        q, k, v = self.linear_q(queries), self.linear_k(keys), self.linear_v(keys)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return q, k, v

    def joined(self, values: Tensor) -> Tensor:
        """B x heads x Q x C / heads -> B x Q x C, mixed by the last linear layer."""
        out: Tensor = self.linear_o(values.transpose(1, 2).flatten(2))
        return out


class SelfAttention(nn.Module):
    """Attention within a map; keys and values come from a reduced one."""

    def __init__(self, heads: int, reduction: int) -> None:
        super().__init__()
        self.attn = Projections(heads)
        if reduction > 1:
            self.sr = nn.Conv2d(TOKEN, TOKEN, reduction, stride=reduction)
            self.norm = norm(TOKEN)
        self.reduction = reduction

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """B x P x C of a map of `size` -> B x P x C."""
        keys = tokens
        if self.reduction > 1:
            keys = self.norm(as_tokens(self.sr(as_map(tokens, size))))
        q, k, v = self.attn.split(tokens, keys)
        scores = q @ k.transpose(2, 3) / (math.sqrt(q.shape[3]) + 1e-9)
        return self.attn.joined(scores.softmax(3) @ v)


class Matching(nn.Module):
    """Cross attention: each support position inside the mask hands its value out over the query's positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = Projections(heads=2)

    def forward(self, query: Tensor, support: Tensor, inside: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        """Tokens B x Q x C and B x S x C, `inside` B x S (bool) -> what the query gets, B x Q x C, and its mean score
        with the support's object, B x Q. `budget`: bytes for the scores at a time."""
        order = positions_first(inside)  # B x S'
        support = support.gather(1, order.unsqueeze(2).expand(-1, -1, support.shape[2]))
        weight = inside.gather(1, order).to(query.dtype)[:, None, :, None]  # B x 1 x S' x 1
        q, k, v = self.attn.split(query, support)
        q, k = F.normalize(q, dim=3), F.normalize(k, dim=3) * weight / TEMPERATURE
        v = v * weight
        step = max(1, budget // (q.shape[:3].numel() * q.element_size()))
        values = torch.zeros_like(q)
        for keys, handed in zip(k.split(step, dim=2), v.split(step, dim=2), strict=True):
            values = values + (q @ keys.transpose(2, 3)).softmax(2) @ handed
        mean = k.sum(2, keepdim=True) / (weight.sum(2, keepdim=True) + 1e-9)  # B x heads x 1 x C / heads
        return self.attn.joined(values), (q * mean).sum(3).mean(1)


class FeedForward(nn.Module):
    """Two 1x1 convolutions with a depthwise 3x3 between, on the map."""

    def __init__(self) -> None:
        super().__init__()
        hidden = 4 * TOKEN
        self.layers = nn.Sequential(
            nn.Conv2d(TOKEN, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Conv2d(hidden, TOKEN, 1),
            nn.Dropout(0.1),
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """B x P x C of a map of `size` -> B x P x C."""
        return as_tokens(self.layers(as_map(tokens, size)))


class EncoderLayer(nn.Module):
    """Norm, attention, norm, feed-forward, each pair added to its input."""

    def __init__(self, attention: SelfAttention | Matching) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.ffn = norm(TOKEN), attention, norm(TOKEN), FeedForward()
        self.drop = nn.Dropout(0.1)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """B x P x C of a map of `size`, by self-attention."""
        return self.finished(tokens, self.attn(self.norm1(tokens), size), size)

    def finished(self, tokens: Tensor, attended: Tensor, size: tuple[int, int]) -> Tensor:
        """The rest of the layer, after attention."""
        tokens = tokens + self.drop(attended)
        fed: Tensor = self.ffn(self.norm2(tokens), size)
        return tokens + fed


class MatchingLayer(EncoderLayer):
    """The same with cross attention to the supports."""

    def __init__(self) -> None:
        super().__init__(Matching())

    def forward(  # type: ignore[override]
        self, query: Tensor, size: tuple[int, int], support: Tensor, inside: Tensor, budget: int
    ) -> tuple[Tensor, Tensor]:
        """The query's tokens B x Q x C with the supports' B x S x C -> B x Q x C, and the correlation map B x h x w."""
        attended, correlation = self.attn(self.norm1(query), self.norm1(support), inside, budget)
        return self.finished(query, attended, size), correlation.unflatten(1, size)


class PatchEmbedding(nn.Module):
    """A convolution with stride, and LayerNorm."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(TOKEN, TOKEN, kernel, stride, kernel // 2)
        self.norm = norm(TOKEN)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """B x C x h x w -> tokens B x P x C and the size of their map."""
        x = self.projection(x)
        return self.norm(as_tokens(x)), (x.shape[2], x.shape[3])


class ConvNorm(nn.Module):
    """What follows a matching: the layer's map and the two similarity maps, mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(TOKEN + 2, TOKEN, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(TOKEN)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """B x 66 x h x w -> B x 64 x h x w."""
        return F.relu(self.bn(self.conv(x)))


class Answer(NamedTuple):
    """What the transformer gives; lists go from the finest stage to the coarsest."""

    logits: Tensor  # B x 2 x h x w
    correlations: list[Tensor]  # B x h x w
    matches: list[Tensor]  # B x C x h x w
    parsed: list[Tensor]  # B x C x h x w


class Transformer(nn.Module):
    """Self-attention over three stages, matching at each, and a top-down path, with the authors' names of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.down_sample_layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PatchEmbedding(3 if stage else 1, 2 if stage else 1),
                    *(EncoderLayer(SelfAttention(HEADS[stage], REDUCTIONS[stage])) for _ in range(2)),
                    norm(TOKEN),
                ]
            )
            for stage in STAGES
        )
        self.match_layers = nn.ModuleList(nn.ModuleList([MatchingLayer(), ConvNorm()]) for _ in STAGES)
        self.parse_layers = nn.ModuleList(nn.Sequential(*bottleneck(), *mixing(TOKEN), nn.ReLU()) for _ in STAGES)
        self.cls = nn.Sequential(*bottleneck(), nn.Conv2d(4 * TOKEN, 2, 1))

    def levels(self, x: Tensor) -> list[Tensor]:
        """A map B x C x h x w -> what self-attention makes of it at each stage, as maps."""
        found = []
        for stage in self.down_sample_layers:
            embed, first, second, last = stage.children()
            tokens, size = embed(x)
            x = as_map(last(second(first(tokens, size), size)), size)
            found.append(x)
        return found

    def match(
        self, query: list[Tensor], support: list[Tensor], masks: Tensor, similarity: Tensor, budget: int
    ) -> Answer:
        """Levels of the query, B x C x h x w, and of the supports, B x K x C x h x w; masks B x K x H x W;
        similarity maps B x 2 x h x w. `budget`: bytes for the scores at a time."""
        matches, correlations = [], []
        for stage, q, s in zip(self.match_layers, query, support, strict=True):
            layer, mix = stage.children()
            size, shot = (q.shape[2], q.shape[3]), (s.shape[3], s.shape[4])
            inside = F.interpolate(masks, shot, mode="nearest").flatten(1) > 0  # B x (K h w)
            tokens, correlation = layer(as_tokens(q), size, s.movedim(2, -1).flatten(1, 3), inside, budget)
            matches.append(mix(torch.cat([as_map(tokens, size), aligned(similarity, size)], dim=1)))
            correlations.append(correlation)
        return self.parse(matches, correlations)

    def parse(self, matches: list[Tensor], correlations: list[Tensor]) -> Answer:
        """Top-down: what coarse stages found goes into the finer ones."""
        parsed = [self.parse_layers[-1](matches[-1])]
        out = parsed[0]
        for match, layer in zip(matches[-2::-1], self.parse_layers[-2::-1], strict=True):
            out = resize(out, (match.shape[2], match.shape[3]))  # corners not aligned, here alone
            parsed.append(layer(match + out))
            out = out + parsed[-1]
        return Answer(self.cls(out), correlations, matches, parsed[::-1])


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


def bottleneck() -> list[nn.Module]:
    """1x1 and 3x3 convolution to four times the channels, each with BatchNorm."""
    wide = 4 * TOKEN
    return [
        nn.Conv2d(TOKEN, wide, 1),
        nn.BatchNorm2d(wide),
        nn.Conv2d(wide, wide, 3, padding=1),
        nn.BatchNorm2d(wide),
    ]


def mixing(outputs: int) -> list[nn.Module]:
    """1x1 convolution back from four times the channels, with BatchNorm."""
    return [nn.Conv2d(4 * TOKEN, outputs, 1), nn.BatchNorm2d(outputs)]


def as_tokens(x: Tensor) -> Tensor:
    """B x C x h x w -> B x hw x C, row by row."""
    return x.flatten(2).transpose(1, 2)


def as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """B x hw x C -> B x C x h x w."""
    found: Tensor = tokens.transpose(1, 2).unflatten(2, size)
    return found
