"""HSNet: Hypercorrelation Squeeze for Few-Shot Segmentation (ICCV 2021).

Every block of the frozen backbone's last three stages compares query and masked support; 4D convolutions squeeze
these correlations, from coarse to fine, into one map for the query.

Ours computes what the authors' code computes. Differences: non-square inputs and changes of size work; shots are a
batch; the correlations exist in chunks of bounded memory; a loss over K shots is the mean of K 1-shot losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.errors import MethodError
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
    strongest,
)
from methods import blocks, positions
from methods.block_encoder import block_encoder, levels
from methods.blocks import cross_entropy
from methods.conv4d import Squeeze, correlation_bytes, resize_query
from methods.recipes.hsnet import LITE, PAPER
from methods.winograd import Conv3x3

STRIDES = (8, 16, 32)  # of the three levels
aligned = partial(blocks.resize, align_corners=True)  # every resize here aligns corners


class HSNetConfig(MethodConfig):
    """Options of HSNet."""

    retired = frozenset({"correlation_megabytes"})

    backbone: str = "resnet50"
    size: tuple[int, int] = (400, 400)


class HypercorrelationLearner(nn.Module):
    """Squeezes three levels of correlations, mixes them top-down, and decodes logits. The authors' names of layers."""

    def __init__(self, maps: tuple[int, int, int]) -> None:
        """`maps`: how many correlations the levels of stride 8, 16 and 32 have."""
        super().__init__()
        widths, same = (16, 64, 128), (128, 128, 128)
        self.encoder_layer4 = Squeeze(maps[2], widths, (3, 3, 3), (2, 2, 2))
        self.encoder_layer3 = Squeeze(maps[1], widths, (5, 3, 3), (4, 2, 2))
        self.encoder_layer2 = Squeeze(maps[0], widths, (5, 5, 3), (4, 4, 2))
        self.encoder_layer4to3 = Squeeze(128, same, (3, 3, 3), (1, 1, 1))
        self.encoder_layer3to2 = Squeeze(128, same, (3, 3, 3), (1, 1, 1))
        self.decoder1 = nn.Sequential(Conv3x3(128, 128), nn.ReLU(), Conv3x3(128, 64), nn.ReLU())
        self.decoder2 = nn.Sequential(Conv3x3(64, 64), nn.ReLU(), Conv3x3(64, 2))

    def forward(self, query: Sequence[list[Tensor]], support: Sequence[list[Tensor]], budget: int) -> Tensor:
        """Normalised maps of each level, P x C x h x w, to logits P x 2 x 2h x 2w (h x w: the finest level's)."""
        return self.decode(self.encode(query, support, budget))

    def encode(self, query: Sequence[list[Tensor]], support: Sequence[list[Tensor]], budget: int) -> Tensor:
        """What the decoder sees: P x 128 x h x w at the finest level's size. `budget`: bytes for correlations."""
        squeezes = (self.encoder_layer2, self.encoder_layer3, self.encoder_layer4)
        fine, middle, coarse = (
            squeeze.of_correlation(q, s, budget) for squeeze, q, s in zip(squeezes, query, support, strict=True)
        )
        mixed: Tensor = self.encoder_layer4to3(_added(coarse, middle))
        mixed = self.encoder_layer3to2(_added(mixed, fine))
        return mixed.mean((4, 5))

    def decode(self, encoded: Tensor) -> Tensor:
        """P x 128 x h x w -> logits P x 2 x 2h x 2w."""
        x = self.decoder1(encoded)
        x = aligned(x, (2 * x.shape[2], 2 * x.shape[3]))
        logits: Tensor = self.decoder2(x)
        return logits


def _added(coarse: Tensor, fine: Tensor) -> Tensor:
    if coarse.shape[4:] != fine.shape[4:]:
        raise MethodError(
            f"HSNet's levels squeeze the support to different sizes, {tuple(coarse.shape[4:])} and "
            f"{tuple(fine.shape[4:])}: expected an input size for which they agree. Choose another by --set size=...; "
            "400 x 400 and all multiples of 32 work with every backbone."
        )
    return resize_query(coarse, (fine.shape[2], fine.shape[3])) + fine


def normalised(maps: Tensor) -> Tensor:
    """Each position's vector over its length plus 1e-5, B x C x h x w."""
    length: Tensor = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return maps / (length + 1e-5)


class HSNet(Method):
    """Hypercorrelations, squeezed."""

    info = MethodInfo(
        title="HSNet",
        paper="Hypercorrelation Squeeze for Few-Shot Segmentation",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2104.01538",
        code="https://github.com/juhongm999/hsnet",
        backbones=("resnet50", "resnet101", "vgg16"),
    )
    Config = HSNetConfig
    checked_with = ("size=160,160",)  # below, the positions its strides keep all lie outside the object
    recipes = {"paper": PAPER, "lite": LITE}
    align_corners = True
    config: HSNetConfig

    def __init__(self, config: HSNetConfig) -> None:
        super().__init__(config)
        self.encoder: Backbone = block_encoder(config.backbone)
        self.encoder.requires_grad_(False)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)
        self.levels = levels(self.encoder, STRIDES)
        fine, middle, coarse = map(len, self.levels)
        self.learner = HypercorrelationLearner((fine, middle, coarse))

    def train(self, mode: bool = True) -> HSNet:
        """Training mode for the learner; the frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """The maps that are compared: those of stride 8 and more."""
        return {name: features[name] for level in self.levels for name in level}

    def encode_support(self, support: SupportBatch) -> Features:
        """Every map times the support's mask, vectors normalised: name -> M x C x h x w."""
        encoded = {}
        for level in self.levels:
            shape = support.features[level[0]].shape
            mask = aligned(support.foreground, (shape[2], shape[3]))
            for name in level:
                maps = support.features[name]
                encoded[name] = normalised(maps * mask.to(maps.dtype))
        return encoded

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits of every shot alone, B x K x 2 x h x w; `decide` lets them vote."""
        budget, shots = self.work_bytes, episodes.size[2]
        query, support = episodes.query, episodes.support
        one = [
            ([query[name][:1] for name in level], [support[name][:1, 0, 0] for name in level]) for level in self.levels
        ]
        at_once = max(1, budget // max(correlation_bytes(*maps) for maps in one))
        if one[0][0][0].device.type in positions.KNOWN_ON:
            at_once = 1  # so that each pair is compared where its own object is
        logits = []
        together = max(1, at_once // shots)  # episodes whose pairs are compared at once, or whose pairs take turns
        for start in range(0, episodes.size[0], together):
            some = episodes.select(slice(start, start + together))
            normal, pairs = self.normal(some), some.size[0] * shots
            for first in range(0, pairs, at_once):
                maps = self.pairs(some, normal, slice(first, first + at_once))
                logits.append(self.learner(*maps, budget))
        every = torch.cat(logits)
        return every.view(episodes.size[0], shots, *every.shape[1:])

    def normal(self, episodes: EpisodeBatch) -> Features:
        """The queries' maps, vectors normalised: once for all shots."""
        return {name: normalised(episodes.query[name]) for level in self.levels for name in level}

    def pairs(
        self, episodes: EpisodeBatch, normal: Features, chosen: slice
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Normalised query and support maps by level, P x C x h x w each, of the chosen pairs.

        Pair p is shot p % K of episode p // K; `normal` are the episodes' queries. Of one episode nothing is copied.
        """
        shots = episodes.size[2]
        query = [
            [normal[name].unsqueeze(1).expand(-1, shots, -1, -1, -1).flatten(0, 1)[chosen] for name in level]
            for level in self.levels
        ]
        support = [[episodes.support[name][:, 0].flatten(0, 1)[chosen] for name in level] for level in self.levels]
        return query, support

    def decide(self, logits: Tensor) -> Tensor:
        """Every shot votes by its argmax. Foreground is where a pixel has half of the image's largest count of votes.

        As in the authors' code: not half of K, so that one vote suffices where no pixel has more than two.
        """
        votes = strongest(logits, 2).sum(1)  # B x H x W
        most = votes.flatten(1).amax(1).clamp(min=1)[:, None, None]
        return (2 * votes >= most).long()

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Mean cross entropy over the labelled pixels of the network's input; the recipe makes void background."""
        if episodes.query_labels is None:
            raise ValueError("HSNet.losses expects episodes with query_labels")
        logits = self.segment(episodes).flatten(0, 1)
        logits = aligned(logits, episodes.query_shape)
        labels = episodes.query_labels.repeat_interleave(episodes.size[2], dim=0)
        return {"main": cross_entropy(logits, labels)}

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of the authors' train.py. The backbone's ImageNet classifier in it plays no part."""
        ours = {"backbone.": "encoder.body.", "hpn_learner.": "learner."}
        renamed = {}
        for name, value in strip_prefix(state).items():
            prefix = next((prefix for prefix in ours if name.startswith(prefix)), "")
            renamed[ours.get(prefix, "") + name.removeprefix(prefix)] = value
        load_converted(self, renamed, unused=("encoder.body.fc.", "encoder.body.classifier."))
