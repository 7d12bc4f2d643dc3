"""DCAMA: Dense Cross-query-and-support Attention weighted Mask Aggregation (ECCV 2022).

Every block of a frozen backbone says which support positions a query position resembles; the support's mask, weighted
by that attention, is one soft mask of the query a block. Small convolutions mix the stack of them, from coarse to fine,
with the two images' own features. K shots are K times as many support positions in one softmax.

Ours computes what the authors' code computes for one episode at a time (theirs mixes up a batch of K > 1). Differences:
non-square inputs work; the attention runs in chunks of bounded memory; ResNets start from torchvision's weights here
where the authors' start from timm's `a1h`. Their Swin-B is `timm:swin_base_patch4_window12_384` (384 x 384 alone); with
which of its two tags the published numbers were made is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.method import (
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    Term,
    load_converted,
    strip_prefix,
)
from methods.block_encoder import block_encoder, levels
from methods.blocks import cross_entropy
from methods.hsnet import aligned
from methods.recipes.dcama import LITE, PAPER

STRIDES = (8, 16, 32)  # of the three stages that are compared
HEADS = 8
WIDTH = 128  # channels of the mixed masks
# timm merges patches at the start of a stage where the authors' Swin does at the end of the one before.
SWIN_NAMES = tuple((f"layers.{i}.downsample.", f"layers.{i + 1}.downsample.") for i in (2, 1, 0))
UNUSED = tuple(f"encoder.body.{name}." for name in ("fc", "norm", "head"))
CONSTANT = (".pe", ".attn_mask", ".relative_position_index")


class DCAMAConfig(MethodConfig):
    """Options of DCAMA."""

    backbone: str = "resnet50"
    size: tuple[int, int] = Field((384, 384), description="network input, in multiples of 32")


class Attention(nn.Module):
    """One stage's attention, shared by its blocks: which support positions a query position resembles."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.drop_tokens, self.drop_weights = nn.Dropout(0.5), nn.Dropout(0.5)

    def tokens(self, maps: Tensor, which: int) -> Tensor:
        """Queries (0) or keys (1) of maps M x C x h x w, with their position code: M x C x h x w."""
        coded = maps.flatten(2).transpose(1, 2)
        coded = coded + position_code(coded.shape[1], coded.shape[2], coded.device).to(coded.dtype)
        coded = self.drop_tokens(coded)
        found: Tensor = self.linears[which](coded).transpose(1, 2).unflatten(2, maps.shape[2:])
        return found

    def forward(self, queries: Tensor, keys: Tensor, masks: Tensor, budget: int) -> Tensor:
        """B x C x h x w, B x K x C x h' x w' and B x K x h' x w' -> the masks as attention weighs them, B x h x w.

        `budget`: bytes for the scores that exist at a time.
        """
        q = queries.flatten(2).unflatten(1, (HEADS, -1)).transpose(2, 3)  # B x heads x Q x C / heads
        k = keys.unflatten(2, (HEADS, -1)).permute(0, 2, 3, 1, 4, 5).flatten(3)  # B x heads x C / heads x (K S)
        v = masks.flatten(1)[:, None, :, None].to(q.dtype)  # B x 1 x (K S) x 1
        of_position = q.shape[0] * HEADS * k.shape[3] * q.element_size()
        step = max(1, budget // (2 * of_position))  # products and weights
        q = q / math.sqrt(q.shape[3])
        parts = []
        room = self._room(q[:, :, :step], k)
        for part in q.split(step, dim=2):
            products, weights = (None, None) if room is None else room[:, :, :, : part.shape[2]]
            weights = torch.softmax(torch.matmul(part, k, out=products), 3, out=weights)
            parts.append((self.drop_weights(weights) @ v).squeeze(3).mean(1))
        found: Tensor = torch.cat(parts, dim=1).unflatten(1, queries.shape[2:])
        return found

    def _room(self, part: Tensor, keys: Tensor) -> Tensor | None:
        """Where products and weights of every part go; None: each into memory of its own, for gradients and autocast.

        Freed and taken again by the hundred, such tensors leave gaps that the next ones do not quite fit.
        """
        if torch.is_grad_enabled() or torch.is_autocast_enabled(part.device.type):
            return None
        return part.new_empty(2, *part.shape[:3], keys.shape[3])


class Mixer(nn.Module):
    """From three stacks of soft masks to logits, with the authors' names of layers."""

    def __init__(self, maps: tuple[int, int, int], skips: int) -> None:
        """`maps`: how many masks the stages of stride 8, 16 and 32 give; `skips`: channels of the images' own maps."""
        super().__init__()
        widths, same = (16, 64, WIDTH), (WIDTH, WIDTH, WIDTH)
        self.conv1 = conv_block(maps[2], widths, (3, 3, 3))
        self.conv2 = conv_block(maps[1], widths, (5, 3, 3))
        self.conv3 = conv_block(maps[0], widths, (5, 5, 3))
        self.conv4 = conv_block(WIDTH, same, (3, 3, 3))
        self.conv5 = conv_block(WIDTH, same, (3, 3, 3))
        self.mixer1 = nn.Sequential(conv(WIDTH + skips, 128), nn.ReLU(), conv(128, 64), nn.ReLU())
        self.mixer2 = nn.Sequential(conv(64, 64), nn.ReLU(), conv(64, 16), nn.ReLU())
        self.mixer3 = nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 2))

    def merge(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of stride 8, 16, 32, B x maps x h x w, top-down: what is mixed at stride 16 and at stride 8."""
        at16, at8 = self.conv2(middle), self.conv3(fine)
        at16 = self.conv4(aligned(self.conv1(coarse), _size(at16)) + at16)
        return at16, self.conv5(aligned(at16, _size(at8)) + at8)

    def forward(self, mixed: Tensor, skips8: list[Tensor], skips4: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mixed masks at stride 8 and the images' own maps at strides 8 and 4 -> what is mixed at stride 4, logits."""
        at4 = aligned(torch.cat([mixed, *skips8], dim=1), _size(skips4[0]))
        at4 = self.mixer1(torch.cat([at4, *skips4], dim=1))
        at2 = self.mixer2(_twice(at4))
        return at4, self.mixer3(_twice(at2))


class DCAMA(Method):
    """Masks aggregated by attention over all support positions, mixed."""

    info = MethodInfo(
        title="DCAMA",
        paper="Dense Cross-Query-and-Support Attention Weighted Mask Aggregation for Few-Shot Segmentation",
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2207.08549",
        code="https://github.com/pawn-sxy/DCAMA",
        backbones=("resnet50", "resnet101", "timm:swin_base_patch4_window12_384"),
    )
    Config = DCAMAConfig
    recipes = {"paper": PAPER, "lite": LITE}
    checked_with = ("size=160,160",)  # below, the coarsest positions all lie outside the object
    align_corners = True
    config: DCAMAConfig

    def __init__(self, config: DCAMAConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = block_encoder(config.backbone)
        self.encoder.requires_grad_(False)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)
        self.levels = levels(self.encoder, STRIDES)
        self.skips = self.levels[0][-1], levels(self.encoder, (4,))[0][-1]
        channels = self.encoder.channels
        self.attention = nn.ModuleDict()
        for stride, level in zip(STRIDES, self.levels, strict=True):
            for width in dict.fromkeys(channels[name] for name in level):  # one, but in EfficientNet
                self.attention[f"{stride}x{width}"] = Attention(width)
        fine, middle, coarse = map(len, self.levels)
        self.mixer = Mixer((fine, middle, coarse), 2 * sum(channels[name] for name in self.skips))

    def train(self, mode: bool = True) -> DCAMA:
        """Training mode for attention and mixer; the frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """The maps that are compared, and the last one of stride 4."""
        return {name: features[name] for level in self.levels for name in level} | {
            self.skips[1]: features[self.skips[1]]
        }

    def encode_support(self, support: SupportBatch) -> Features:
        """Keys of every map, M x C x h x w, and the two maps that skip the attention as they are."""
        keys = {name: self.of(name).tokens(support.features[name], 1) for level in self.levels for name in level}
        return keys | {f"skip {name}": support.features[name] for name in self.skips}

    def of(self, name: str) -> Attention:
        """The attention that compares a map."""
        return cast(Attention, self.attention[f"{name.partition('.')[0]}x{self.encoder.channels[name]}"])

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits at the size of the network's input, B x 2 x H x W."""
        return self.mixed(episodes, self.aggregated(episodes))[-1]

    def aggregated(self, episodes: EpisodeBatch) -> list[Tensor]:
        """The soft masks of each stage, from stride 8 to 32: B x blocks x h x w."""
        foreground, stacks = episodes.support_foreground[:, 0], []
        for level in self.levels:
            keys = episodes.support[level[0]]
            masks = aligned(foreground, (keys.shape[-2], keys.shape[-1]))
            stacks.append(torch.stack([self.attended(episodes, name, masks) for name in level], dim=1))
        return stacks

    def attended(self, episodes: EpisodeBatch, name: str, masks: Tensor) -> Tensor:
        """One block's soft mask of the query, B x h x w, from the supports' masks, B x K x h' x w'."""
        attention = self.of(name)
        queries = attention.tokens(episodes.query[name], 0)
        found: Tensor = attention(queries, episodes.support[name][:, 0], masks, self.work_bytes // 2)
        return found

    def mixed(self, episodes: EpisodeBatch, masks: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is mixed at strides 16, 8 and 4, and the logits; of K shots the skipping maps' maximum."""
        at16, at8 = self.mixer.merge(*masks)
        skips8, skips4 = ([episodes.query[name], episodes.support[f"skip {name}"][:, 0].amax(1)] for name in self.skips)
        at4, logits = self.mixer(at8, skips8, skips4)
        return at16, at8, at4, logits

    def losses(self, episodes: EpisodeBatch) -> dict[str, Term]:
        """Mean cross entropy over the labelled pixels of the network's input; the recipe makes void background."""
        if episodes.query_labels is None:
            raise ValueError("DCAMA.losses expects episodes with query_labels")
        logits = aligned(self.segment(episodes), episodes.query_shape)
        return {"main": cross_entropy(logits, episodes.query_labels)}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of the authors' train.py. Classifiers and constant tables in it play no part."""
        swin = "swin" in self.encoder.name
        renamed = {
            self._our_name(name, swin): value
            for name, value in strip_prefix(state).items()
            if not name.endswith(CONSTANT)
        }
        load_converted(self, renamed, unused=UNUSED)

    def _our_name(self, name: str, swin: bool) -> str:
        if name.startswith("feature_extractor."):
            inner = name.removeprefix("feature_extractor.")
            for theirs, ours in SWIN_NAMES if swin else ():
                inner = inner.replace(theirs, ours) if inner.startswith(theirs) else inner
            return f"encoder.body.{inner}"
        if name.startswith("model.DCAMA_blocks."):
            block, _, rest = name.removeprefix("model.DCAMA_blocks.").partition(".")
            return f"attention.{list(self.attention)[int(block)]}.{rest}" if int(block) < len(self.attention) else name
        return name.replace("model.", "mixer.", 1) if name.startswith("model.") else name


def position_code(count: int, channels: int, device: torch.device) -> Tensor:
    """Sines and cosines of a position's number at geometric rates, alternating: count x channels, in float32."""
    rates = torch.exp(torch.arange(0, channels, 2, device=device).float() * (-math.log(10000.0) / channels))
    angles = torch.arange(count, device=device).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :channels]


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def conv_block(inputs: int, widths: tuple[int, int, int], kernels: tuple[int, int, int]) -> nn.Sequential:
    """Convolution, GroupNorm and ReLU three times."""
    layers: list[nn.Module] = []
    for width, kernel in zip(widths, kernels, strict=True):
        layers += [nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.GroupNorm(4, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _twice(x: Tensor) -> Tensor:
    return aligned(x, (2 * x.shape[2], 2 * x.shape[3]))
