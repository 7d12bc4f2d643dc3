"""GF-SAM: Bridge the Points, Graph-based Few-shot Segment Anything Semantically (NeurIPS 2024).

DINOv2 tokens of supports and query give similarity maps; every similar cell prompts SAM for one mask; masks that cover
each other's points form components of a graph, and those that grow well and agree with themselves are united.

Ours computes what the authors' code computes, its normalisation of tokens over positions included. Differences: a
query without a similar cell gets an empty mask, where theirs stops; support labels are resized by Pillow's nearest
instead of torch's. Masks carry no strength: where ways claim one pixel, the first has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.sparse.csgraph import connected_components
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from fssbench.backbones import Pretrained, published_file
from fssbench.errors import MethodError, unknown_name
from fssbench.method import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    load_converted,
)
from methods.sam import Sam, SamSizes, our_names, sam_named

MOST_POINTS = 128
PROMPTS_AT_ONCE = 16
FALLBACK_SIDE = 14  # of the square that stands for a mask without a pixel
ADDRESS = "https://dl.fbaipublicfiles.com/dinov2/"  # Apache-2.0


@dataclass(frozen=True)
class DinoSizes:
    """The sizes of a DINOv2. `file` holds its published weights."""

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4
    file: str | None = None


DINO = {
    "dinov2_vits14": DinoSizes(embed_dim=384, depth=12, num_heads=6, file="dinov2_vits14/dinov2_vits14_pretrain.pth"),
    "dinov2_vitb14": DinoSizes(embed_dim=768, depth=12, num_heads=12, file="dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
    "dinov2_vitl14": DinoSizes(file="dinov2_vitl14/dinov2_vitl14_pretrain.pth"),
    "dinov2_test": DinoSizes(img_size=112, embed_dim=32, depth=2, num_heads=2),  # for tests: there are no weights
}


class Dino(Pretrained):
    """DINOv2's patch tokens: the last block's output before the final norm."""

    def __init__(self, sizes: DinoSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.body = VisionTransformer(
            img_size=sizes.img_size, patch_size=sizes.patch_size, embed_dim=sizes.embed_dim, depth=sizes.depth,
            num_heads=sizes.num_heads, mlp_ratio=sizes.mlp_ratio, init_values=1e-5, num_classes=0,
        )  # fmt: skip

    @property
    def grid(self) -> int:
        """Cells a side."""
        return self.sizes.img_size // self.sizes.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Images of 0..1, B x 3 x h x w, squashed without antialiasing -> B x N x C, row by row."""
        side = self.sizes.img_size
        x = F.interpolate(images, (side, side), mode="bilinear")
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        body: Any = self.body
        last: Tensor = body.forward_intermediates(
            (x - mean) / std, indices=1, norm=False, output_fmt="NLC", intermediates_only=True
        )[0]
        return last

    def load_imagenet(self) -> None:
        """Meta's weights, downloaded on first use (their MD5 is not published)."""
        if self.sizes.file is None:
            raise MethodError("there are no published weights of a DINOv2 of these sizes; say --weights random.")
        state = dict(published_file(ADDRESS + self.sizes.file))
        state.pop("mask_token", None)
        load_converted(self.body, state)


class GFSAMConfig(MethodConfig):
    """Options of GF-SAM."""

    backbone: str = Field("sam_vit_h", description="the SAM: sam_vit_b, sam_vit_l or sam_vit_h")
    dino: str = Field("dinov2_vitl14", description="what similarity is taken on: dinov2_vits14, _vitb14 or _vitl14")
    size: tuple[int, int] = (1024, 1024)
    sam_sizes: SamSizes | None = Field(None, description="of another SAM; not from the command line")
    dino_sizes: DinoSizes | None = Field(None, description="of another DINOv2; not from the command line")


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


class GFSAM(Method):
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
    Config = GFSAMConfig
    encodes_support = False  # SAM looks at queries only
    checked_with = ("backbone=sam_test", "dino=dinov2_test", "size=64,64")
    config: GFSAMConfig

    def __init__(self, config: GFSAMConfig) -> None:
        super().__init__(config)
        if config.dino_sizes is None and config.dino not in DINO:
            raise MethodError(unknown_name("DINOv2", config.dino, DINO))
        self.encoder: Sam = sam_named(config.backbone, config.sam_sizes).requires_grad_(False)
        self.dino = Dino(config.dino_sizes or DINO[config.dino]).requires_grad_(False)
        self.query_input = Preprocess(config.size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def encode(self, images: Tensor) -> Features:
        """SAM's features, B x C x g x g, and DINOv2's tokens, B x N x C."""
        return {"sam": self.encoder.encode(images), "tokens": self.dino(images)}

    def encode_support(self, support: SupportBatch) -> Features:
        """Tokens, M x N x C, and the soft masks of object and complement on their grid, M x 2 x N."""
        inside = support.foreground
        height, width = inside.shape[2:]
        square = torch.zeros_like(inside[0])
        top, left = height // 2 - FALLBACK_SIDE // 2, width // 2 - FALLBACK_SIDE // 2
        square[:, top : top + FALLBACK_SIDE, left : left + FALLBACK_SIDE] = 1
        inside = torch.where(inside.flatten(1).any(1).view(-1, 1, 1, 1), inside, square)
        grid = (self.dino.grid, self.dino.grid)
        masks = F.interpolate(torch.cat([inside, 1 - inside], dim=1), grid, mode="bilinear", align_corners=True)
        return {"tokens": self.dino(support.pixels), "masks": masks.flatten(2)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x H x W: zeros, and 1 inside the mask, -1 outside."""
        masks = [self._mask(episodes, b) for b in range(episodes.size[0])]
        foreground = torch.stack(masks).float().unsqueeze(1) * 2 - 1
        return torch.cat([torch.zeros_like(foreground), foreground], dim=1)

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

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load DINOv2's and SAM's published entries, named with the prefixes `dinov2.` and `sam.`."""
        sam = our_names({name[4:]: value for name, value in state.items() if name.startswith("sam.")})
        renamed = {f"encoder.{name}": value for name, value in sam.items()}
        renamed |= {
            f"dino.body.{name[7:]}" if name.startswith("dinov2.") else name: value
            for name, value in state.items()
            if not name.startswith("sam.")
        }
        load_converted(self, renamed, unused=("dino.body.mask_token",))


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
