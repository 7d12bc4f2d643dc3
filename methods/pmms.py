"""PMMs and RPMMs: Prototype Mixture Models for Few-Shot Semantic Segmentation (ECCV 2020).

EM describes the support's object and its background by several prototypes each. The object's are compared with the
query as in CANet; all of them give every query pixel a probability, which guides the refinement trunk. RPMMs chain
three such stages of 1, 3 and 6 components, each guided by the mask of the one before.

Equal to the authors' code except for the initial means of EM: theirs are random in every process (PMMs) or forward
pass (RPMMs) and no part of a checkpoint; ours are drawn once from `em_seed` and saved, so that results repeat.
Components that die (a zero prototype) stay dead, as theirs. The loss leaves out void pixels, theirs calls them
background. RPMMs with VGG-16 have a row in the authors' tables but no published code: ours follows their PMMs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fssbench.backbones import vgg
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
from methods.dense_comparison import (
    TRUNK_NAMES,
    WIDTH,
    DenseComparison,
    GuidedConv,
    RefinementTrunk,
    conv_block,
    freeze_batchnorm_affine,
    middle_encoder,
    query_loss,
    renamed,
    soft_mask,
    total,
)
from methods.recipes import pmms as recipes

PAPER = "Prototype Mixture Models for Few-Shot Semantic Segmentation"
POSITIONS = 1024  # of the supports, in EM at a time


class _MixtureConfig(MethodConfig):
    backbone: str = "resnet50"
    size: tuple[int, int] = Field(default=(481, 481), description="network input at test; the authors train at 321,321")
    width: int = Field(default=WIDTH, ge=1, description="channels of every map in the head")
    kappa: float = Field(default=20.0, gt=0, description="concentration of the mixture's components")
    em_rounds: int = Field(default=10, ge=1)
    em_seed: int = Field(default=0, ge=0, description="of the initial means")
    batchnorm: Literal["batch", "running"] = Field(
        default="batch", description="statistics of the encoder in training; the authors' code uses the batch's"
    )


class PMMsConfig(_MixtureConfig):
    """Options of PMMs."""

    components: int = Field(default=3, ge=1, description="prototypes of the object, and as many of its background")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="in ASPP")


class RPMMsConfig(_MixtureConfig):
    """Options of RPMMs."""

    components: tuple[PositiveInt, ...] = Field(default=(1, 3, 6), min_length=1, description="prototypes of each stage")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of whole channels, in the head")


class Mixture(NamedTuple):
    """Prototypes of object and background, B x C x K each, and the query's probabilities, B x 2 x h x w."""

    foreground: Tensor
    background: Tensor
    probability: Tensor


class Stage(NamedTuple):
    """What one stage computes; `fused` is the query compared with all prototypes, B x C x h x w."""

    mixture: Mixture
    fused: Tensor
    logits: Tensor  # B x 2 x h x w, background first


def initial_means(components: int, seed: int, width: int = WIDTH) -> Tensor:
    """Unit vectors, 1 x C x K: normal values of deviation sqrt(2 / K), normalised, from `seed` and `components`."""
    generator = torch.Generator().manual_seed(seed * 1000 + components)
    means = torch.randn(1, width, components, generator=generator) * math.sqrt(2 / components)
    length: Tensor = means.norm(dim=1, keepdim=True)
    return means / (1e-6 + length)


def expectation_maximisation(
    vectors: Tensor, masks: Tensor, means: Sequence[Tensor], kappa: float, rounds: int
) -> list[Tensor]:
    """Means of S mixtures for each of several first means, as unit vectors; as in the authors' code.

    A mixture is one of the vectors, B x C x n, times one of the masks, B x S x n. First means 1 x C x K give
    B x S x C x K. Vectors are not normalised, so assignments are nearly hard and a component may be left with a zero
    mean. Masking removes nothing: a masked vector is a zero vector that counts only through the 1e-6.
    """
    numbers = [first.shape[2] for first in means]
    first = torch.cat([*means], dim=2).mT.unsqueeze(1)
    fitted = first.expand(len(vectors), masks.shape[1], -1, -1)  # B x S x sum of K x C
    # Some at a time, which a processor still has at hand for the second product.
    parts = list(zip(*(x.split(POSITIONS if x.is_cpu else x.shape[2], dim=2) for x in (vectors, masks)), strict=True))
    for _ in range(rounds):
        amounts, sums = torch.zeros_like(fitted[..., :1]), torch.zeros_like(fitted)
        for part, inside in parts:
            # (mask * vector) . mean is mask * (vector . mean): the masked copies of the vectors are never made.
            scores = (fitted.flatten(1, 2) @ part).unflatten(1, fitted.shape[1:3]) * (kappa * inside.unsqueeze(2))
            weights = torch.cat([of_one.softmax(2) for of_one in scores.split(numbers, dim=2)], dim=2)
            amounts += weights.sum(3, keepdim=True)
            sums += ((inside.unsqueeze(2) * weights).flatten(1, 2) @ part.mT).view_as(sums)
        fitted = sums / (1e-6 + amounts)
        fitted = fitted / (1e-6 + torch.linalg.vector_norm(fitted, dim=3, keepdim=True))
    return list(fitted.mT.split(numbers, dim=3))


@torch.no_grad()
def fit_mixtures(
    query: Tensor, support: Tensor, mask: Tensor, means: Sequence[Tensor], kappa: float, rounds: int
) -> list[Mixture]:
    """For each of the first means, prototypes of the K shots together and the query's probability map, in float32.

    `query` B x C x h x w, `support` B x K x C x h x w, `mask` B x K x 1 x h x w in 0..1. Nothing carries a gradient.
    """
    mixtures = []
    with torch.autocast(query.device.type, enabled=False):
        vectors = support.float().transpose(1, 2).flatten(2)  # all shots side by side: B x C x Khw
        of_object = mask.float().flatten(1)
        sides = torch.stack([1 - of_object, of_object], dim=1)  # B x 2 x Khw
        first = [mean.float() for mean in means]
        for prototypes in expectation_maximisation(vectors, sides, first, kappa, rounds):  # B x 2 x C x K
            scores = torch.einsum("bchw,bsck->bskhw", query.float(), prototypes)
            probability = scores.flatten(1, 2).softmax(1).unflatten(1, (2, -1)).sum(2)
            background, foreground = prototypes.to(query.dtype).unbind(1)
            mixtures.append(Mixture(foreground, background, probability.to(query.dtype)))
    return mixtures


class _MixtureMethod(Method):
    """Encoder, features, EM and trunk, which PMMs and RPMMs share."""

    config: _MixtureConfig

    def __init__(self, config: PMMsConfig | RPMMsConfig, components: tuple[int, ...], *, norm: bool) -> None:
        super().__init__(config)
        self.components = components
        if config.backbone.startswith("vgg"):
            self.encoder = vgg(config.backbone, strides=(2, 2, 2, 1), pool_kernel=3, fifth_pool=True)
            self.stages: tuple[str, ...] = ("c5",)
            self.adapt: nn.Module = nn.Conv2d(512, 512, 3, padding=1)  # the authors' `cls`, never pretrained
        else:
            self.encoder, self.stages = middle_encoder(config.backbone)
            self.adapt = nn.Identity()
        freeze_batchnorm_affine(self.encoder)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)
        inputs = sum(self.encoder.channels[stage] for stage in self.stages)
        self.reduce = conv_block(inputs, config.width, 3, dilation=2, norm=True)
        self.trunk = RefinementTrunk(config.width, config.dropout, norm=norm)
        for k in components:
            self.register_buffer(f"means_{k}", initial_means(k, config.em_seed, config.width))

    def train(self, mode: bool = True) -> Self:
        """Training mode; the encoder's BatchNorm keeps its running statistics if so configured."""
        super().train(mode)
        if self.config.batchnorm == "running":
            self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """`layer5` of the middle-level features: B x 256 x h x w."""
        return {"feature": self.reduce(self.adapt(torch.cat([features[stage] for stage in self.stages], dim=1)))}

    def encode_support(self, support: SupportBatch) -> Features:
        """Features M x 256 x h x w and the soft mask at their size, M x 1 x h x w: EM needs all shots together."""
        feature = support.features["feature"]
        return {"feature": feature, "mask": soft_mask(support).to(feature.dtype)}

    def mixtures(self, episodes: EpisodeBatch) -> list[Mixture]:
        """EM with as many prototypes for each side as `components` has it, and the query's probability maps."""
        return fit_mixtures(
            episodes.query["feature"],
            episodes.support["feature"][:, 0],
            episodes.support["mask"][:, 0],
            [self.get_buffer(f"means_{k}") for k in self.components],
            self.config.kappa,
            self.config.em_rounds,
        )

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of the authors' OneModel. It holds no initial means: those of `em_seed` stay."""
        resnet = {
            f"model_res.{name}": f"encoder.body.{name}" for name in ("conv1", "bn1", "layer1", "layer2", "layer3")
        }
        blocks = zip(range(1, 6), (0, 5, 10, 17, 24), strict=True)  # torchvision counts through all five
        vgg16 = {
            f"model_backbone.features_{block}.{i}": f"encoder.body.features.{first + i}"
            for block, first in blocks
            for i in (0, 2, 4)
        }
        names = {
            **TRUNK_NAMES,
            **resnet,
            **vgg16,
            "model_backbone.cls.0": "adapt",
            "layer56": "fuse",
            **{f"layer6.layer6_{i}": f"trunk.aspp.branches.{i}" for i in range(5)},
        }
        means = {f"means_{k}": self.get_buffer(f"means_{k}") for k in self.components}
        load_converted(self, {**renamed(strip_prefix(state), names), **means})


class PMMs(_MixtureMethod):
    """One stage: the comparisons with all object prototypes are summed, the probability map guides the trunk."""

    info = MethodInfo(
        title="PMMs",
        paper=PAPER,
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/2008.03898",
        code="https://github.com/Yang-Bob/PMMs",
        backbones=("resnet50", "vgg16"),
    )
    Config = PMMsConfig
    recipes = {"paper": recipes.PAPER, "lite": recipes.LITE}

    def __init__(self, config: PMMsConfig) -> None:
        super().__init__(config, (config.components,), norm=True)
        self.compare = DenseComparison(config.width, norm=True)
        self.fuse = conv_block(config.width, config.width, 3, norm=True)

    def stage(self, episodes: EpisodeBatch) -> Stage:
        """Everything that the single stage computes."""
        query = episodes.query["feature"]
        (mixture,) = self.mixtures(episodes)
        fused = self.fuse(total(self.compare(query, mixture.foreground.transpose(1, 2))))
        return Stage(mixture, fused, self.trunk(fused, mixture.probability))

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits, B x 2 x h x w."""
        return self.stage(episodes).logits

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Mean cross entropy of the upsampled logits."""
        return {"main": query_loss(self.stage(episodes).logits, episodes, align_corners=False)}


class RPMMs(_MixtureMethod):
    """A chain of stages with shared weights; each sees its own probability map and the mask of the stage before."""

    info = MethodInfo(
        title="RPMMs",
        paper=PAPER,
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/2008.03898",
        code="https://github.com/Yang-Bob/PMMs",
        backbones=("resnet50", "vgg16"),
    )
    Config = RPMMsConfig
    checked_with = ("components=1,2",)
    recipes = {"paper": recipes.PAPER, "lite": recipes.LITE}

    def __init__(self, config: RPMMsConfig) -> None:
        super().__init__(config, config.components, norm=False)
        self.compare = DenseComparison(config.width, dropout=config.dropout)
        self.fuse = nn.Sequential(GuidedConv(config.width), nn.ReLU(), nn.Dropout2d(config.dropout))

    def chain(self, episodes: EpisodeBatch) -> list[Stage]:
        """Every stage, in order; the first is guided by an empty mask."""
        query = episodes.query["feature"]
        guide = query.new_zeros(len(query), 2, *query.shape[2:])
        mixtures = self.mixtures(episodes)
        vectors = torch.cat([mixture.foreground for mixture in mixtures], dim=2).transpose(1, 2)
        comparisons = self.compare(query, vectors).split(self.components, dim=1)
        stages = []
        for mixture, compared in zip(mixtures, comparisons, strict=True):
            fused = self.fuse[1:](self.fuse[0](total(compared), mixture.probability))
            stages.append(Stage(mixture, fused, self.trunk(fused, guide)))
            guide = stages[-1].logits.softmax(1)  # not detached: the loss of a stage trains those before it
        return stages

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x h x w: the last stage's logits for one shot, else the sum of the stages' probabilities over 5.

        That one shot and several are read out differently, and the 5, are the authors' code.
        """
        stages = self.chain(episodes)
        if episodes.size[2] == 1:
            return stages[-1].logits
        return torch.stack([stage.logits.softmax(1) for stage in stages]).sum(0) / 5

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """The stages' mean cross entropies."""
        return {
            f"stage{number}": query_loss(stage.logits, episodes, align_corners=False)
            for number, stage in enumerate(self.chain(episodes))
        }
