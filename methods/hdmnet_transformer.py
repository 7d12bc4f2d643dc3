"""HDMNet's pyramid transformer: self-attention over three stages, one matching of query and supports at each.

Layers have the authors' names; what they compute and how ours differs stands in `methods/hdmnet.py`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.blocks import resize
from methods.pfenet import aligned
from methods.positions import positions_first

TOKEN = 64  # channels of everything in the transformer
HEADS = (2, 4, 8)  # of self-attention, by stage
REDUCTIONS = (4, 2, 1)  # of the maps that keys and values of self-attention come from, by stage
STAGES = range(len(HEADS))
TEMPERATURE = 0.1  # of the cosines of the matching
norm = partial(nn.LayerNorm, eps=1e-6)


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
