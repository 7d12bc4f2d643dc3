"""GF-SAM: Bridge the Points, Graph-based Few-shot Segment Anything Semantically (NeurIPS 2024).

DINOv2 tokens of supports and query give similarity maps; every similar cell prompts SAM for one mask; masks that cover
each other's points form components of a graph, and those that grow well and agree with themselves are united.

Ours computes what the authors' code computes, its normalisation of tokens over positions included. Differences: a
query without a similar cell gets an empty mask, where theirs stops; support labels are resized by Pillow's nearest
instead of torch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from fssbench.method import EpisodeBatch, Features, MethodInfo, SupportBatch
from methods.sam_dinov2 import SamDinoConfig, SamDinoMethod, object_or_square

MOST_POINTS = 128
PROMPTS_AT_ONCE = 16


@dataclass(frozen=True)
class Maps:
    """Similarity of a query with its supports, g x g each (section 3.1 of the authors' code, `generate_prior`)."""

    largest: Tensor  # P: the largest masked similarity
    mean: Tensor  # M: the mask-weighted mean
    negative: Tensor  # M-: the same for the mask's complement

    @property
    def filtered(self) -> Tensor:
        """X: what points are taken from."""
        both = unit(self.mean * self.largest)
        return torch.where(unit(self.negative) > both, torch.zeros_like(both), both)

    @property
    def middle(self) -> Tensor:
        """Half-way between the mean map's extremes."""
        return (self.mean.max() + self.mean.min()) / 2


@dataclass(frozen=True)
class Graph:
    """How P masks relate and which are chosen."""

    adjacency: Tensor  # P x P: mask i covers point j
    component: Tensor  # P
    grown: Tensor  # P bool
    score: Tensor  # P: of each one's component
    label: Tensor  # P: 1 grown and self-consistent, 2 one of both, 0 neither
    mask: Tensor  # h x w bool


class GFSAM(SamDinoMethod):
    """Points from DINOv2, masks from SAM, a graph to choose among them."""

    info = MethodInfo(
        title="GF-SAM",
        paper="Bridge the Points: Graph-based Few-shot Segment Anything Semantically",
        venue="NeurIPS",
        year=2024,
        url="https://arxiv.org/abs/2410.06964",
        code="https://github.com/ANDYZAQ/GF-SAM",
        backbones=("sam_vit_h",),
        untrained=True,
        trainable=False,
    )
    Config = SamDinoConfig
    checked_with = ("backbone=sam_test", "dino=dinov2_test", "size=64,64")
    config: SamDinoConfig

    def encode_support(self, support: SupportBatch) -> Features:
        """Tokens, M x N x C, and the soft masks of object and complement on their grid, M x 2 x N."""
        inside = object_or_square(support)
        grid = (self.dino.grid, self.dino.grid)
        masks = F.interpolate(torch.cat([inside, 1 - inside], dim=1), grid, mode="bilinear", align_corners=True)
        return {"tokens": self.dino(support.pixels), "masks": masks.flatten(2)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x H x W: zeros, and 1 inside the mask, -1 outside."""
        return self.scores([self._mask(episodes, b) for b in range(episodes.size[0])])

    def _mask(self, episodes: EpisodeBatch, b: int) -> Tensor:
        tokens = episodes.query["tokens"][b]
        maps = self.maps(tokens, episodes.support["tokens"][b, 0], episodes.support["masks"][b, 0])
        cells = self.cells(maps.filtered)
        if not len(cells):
            return torch.zeros(episodes.query_shape, dtype=torch.bool, device=tokens.device)
        masks = self.masks(episodes.query["sam"][b : b + 1], self.prompts(cells), episodes.query_shape)[0]
        return self.graph(masks, cells, maps, tokens).mask

    def maps(self, query: Tensor, support: Tensor, masks: Tensor) -> Maps:
        """Query N x C, supports K x N x C with masks K x 2 x N."""
        q, largest, means = over_positions(query), [], []
        for tokens, (mask, complement) in zip(support, masks, strict=True):
            similarity = similarities(over_positions(tokens), q)
            largest.append((similarity * mask[:, None]).amax(0))
            means.append(torch.stack([weighted_mean(similarity, weights) for weights in (mask, complement)]))
        grid = (self.dino.grid, self.dino.grid)
        mean, negative = torch.stack(means).mean(0).unflatten(1, grid)
        return Maps(torch.stack(largest).mean(0).unflatten(0, grid), mean, negative)

    def cells(self, filtered: Tensor) -> Tensor:
        """The cells that prompt, P x 2 as (x, y), ordered by x, then y."""
        total = filtered.sum()
        count = min(int(total), MOST_POINTS) or int(total > 0)
        chosen = filtered.flatten().topk(count).indices
        x, y = chosen % self.dino.grid, chosen // self.dino.grid
        order = (x * self.dino.grid + y).argsort()
        return torch.stack([x, y], dim=1)[order]

    def prompts(self, cells: Tensor) -> Tensor:
        """P x 2 (x, y) in SAM's input: the cells' top left corners, truncated."""
        return (cells.double() * self.encoder.sizes.img_size / self.dino.grid).long()

    def masks(self, features: Tensor, prompts: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Each point's single mask, P x h x w bool, and its low-resolution logits."""
        made, logits = [], []
        for points in prompts.split(PROMPTS_AT_ONCE):
            labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
            low = self.encoder.decode(features, (points[:, None].float(), labels))[0][:, :1]
            made.append(self.encoder.at_size(low, size)[:, 0] > 0)
            logits.append(low[:, 0])
        return torch.cat(made), torch.cat(logits)

    def graph(self, masks: Tensor, cells: Tensor, maps: Maps, tokens: Tensor) -> Graph:
        """Components of masks P x h x w that cover each other's cells, and the union of the chosen ones."""
        grid = (self.dino.grid, self.dino.grid)
        covers = F.interpolate(masks[:, None].to(torch.uint8), grid, mode="nearest")[:, 0] > 0
        adjacency = covers[:, cells[:, 1], cells[:, 0]]
        _, numbers = connected_components(adjacency.cpu().numpy(), directed=True, connection="weak")
        component = torch.from_numpy(numbers.astype(np.int64)).to(masks.device)
        members = [(component == number).nonzero()[:, 0] for number in range(int(component.max()) + 1)]
        grown, score = grow(torch.cat([on_grid(part, grid) for part in masks.split(PROMPTS_AT_ONCE)]), members, maps)
        unions = torch.stack([on_grid(masks[one].any(0)[None], grid)[0] for one in members])
        consistent = consistency(unions, cells, component, members, over_positions(tokens))
        label = torch.where(consistent & grown, 1, torch.where(consistent | grown, 2, 0))
        chosen = label == 1
        if not chosen.any():
            chosen = torch.zeros_like(chosen)
            chosen[torch.where(label == 2, score, torch.zeros_like(score)).argmax()] = True
        return Graph(adjacency, component, grown, score, label, masks[chosen].any(0))


def unit(values: Tensor) -> Tensor:
    """Values between 0 and (nearly) 1."""
    return (values - values.min()) / (values.max() - values.min() + 1e-6)


def over_positions(tokens: Tensor) -> Tensor:
    """N x C, every channel divided by its length over the positions: the authors' normalisation."""
    return F.normalize(tokens, dim=0)


def similarities(support: Tensor, query: Tensor) -> Tensor:
    """Cosines of every support with every query token: N x C and N' x C -> N x N'."""
    lengths = support.norm(dim=1)[:, None] * query.norm(dim=1)[None]
    cosines: Tensor = support @ query.T / (lengths + 1e-7)
    return cosines


def weighted_mean(similarity: Tensor, weights: Tensor) -> Tensor:
    """Mean over the support's tokens of weights times similarity, over the mean weight: N x N' and N -> N'."""
    return (similarity * weights[:, None]).mean(0) / (weights.mean() + 1e-7)


def on_grid(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """P x h x w bool to soft masks P x g x g."""
    return F.interpolate(masks[:, None].float(), grid, mode="bilinear")[:, 0]


def grow(masks: Tensor, members: list[Tensor], maps: Maps) -> tuple[Tensor, Tensor]:
    """Which soft masks, P x g x g, bring their component more of the region than of the rest; and its score, P.

    The score is the gain of the mask visited last, accepted or not, as in the authors' code.
    """
    positive, negative = maps.mean**2, maps.negative * maps.middle
    region = (positive > negative).float()
    grown = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    score = masks.new_zeros(len(masks))
    for component in members:
        own = masks[component]
        worth = (own * (positive - negative)).sum((1, 2)) / (own.sum((1, 2)) + 1e-6)
        taken = torch.zeros_like(region)
        gain = region.new_zeros(())
        for index in component[worth.argsort(descending=True)]:
            new = masks[index] * (1 - taken)
            gain = (region * new).sum() - ((1 - region) * new).sum()
            if gain > 0:
                grown[index] = True
                taken = taken + new
        score[component] = gain
    return grown, score


def consistency(unions: Tensor, cells: Tensor, component: Tensor, members: list[Tensor], tokens: Tensor) -> Tensor:
    """Whether each point resembles its own component most, near ones first: P bool.

    `unions` are the components' soft masks, n x g x g; `tokens` the query's, N x C, normalised over positions. A
    component with fewer consistent than inconsistent members is inconsistent as a whole.
    """
    similarity = similarities(tokens, tokens)
    own = torch.stack([weighted_mean(similarity, union.flatten()) for union in unions])  # n x N
    values = own[:, cells[:, 1] * unions.shape[2] + cells[:, 0]].T  # P x n
    apart = torch.cdist(cells.float(), cells.float())  # P x P
    nearest = torch.stack([apart[:, one].amin(1) for one in members], dim=1)  # P x n
    nearest = torch.where(nearest == 0, torch.ones_like(nearest), nearest)
    consistent: Tensor = (values / nearest).argmax(1) == component
    for one in members:
        if 2 * int(consistent[one].sum()) < len(one):
            consistent[one] = False
    return consistent
