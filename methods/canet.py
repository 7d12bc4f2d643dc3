"""CANet: Class-Agnostic Segmentation Networks with Iterative Refinement and Attentive Few-Shot Learning (CVPR 2019).

The support's masked mean is compared with every query pixel; the mask is then refined by feeding it back.

As in the authors' code where it differs from the paper: ASPP has a fifth, plain 1x1 branch. What does not depend on
the history (features, prototype, comparison) is computed once, not once a pass; the outputs are the same.
Differences: the number of refinements is fixed beforehand, where the authors' loop stops at the best pass by the test
labels; the supports are not augmented at test; void pixels are left out of the loss, where theirs are background.

K shots: the authors published no code. `attention` is our reading of the paper, whose text leaves open the pool and
the activations: conv 3x3 with 256 filters, ReLU, max pool 3x3 of stride 3, conv 3x3 to one channel, mean; softmax over
the supports. Its weights want training with K-shot episodes, so the default is `mean`, which fits 1-shot weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fssbench.errors import CheckpointError
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
from methods.dense_comparison import (
    TRUNK_NAMES,
    WIDTH,
    DenseComparison,
    RefinementTrunk,
    TiledConv,
    conv_block,
    middle_encoder,
    query_loss,
    renamed,
    soft_mask,
    total,
)
from methods.recipes.canet import LITE, PAPER


class CANetConfig(MethodConfig):
    """Options of CANet."""

    backbone: str = "resnet50"
    size: tuple[int, int] = Field(default=(321, 321), description="network input")
    refinements: int = Field(default=4, ge=0, description="passes after the first one")
    fusion: Literal["mean", "attention", "confidence", "or"] = Field(
        default="mean",
        description="of K shots: mean or attention over comparisons, mean of confidence maps, OR of masks",
    )
    levels: Literal["both", "lower", "upper"] = Field(
        default="both", description="encoder stages used, the paper's blocks 2, 3"
    )
    width: int = Field(default=WIDTH, ge=1, description="channels of every map in the head")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of whole channels, in the head")
    history_probability: float = Field(default=0.3, ge=0, le=1, description="of training with a history mask")
    batchnorm: Literal["batch", "running"] = Field(
        default="batch", description="statistics of the frozen encoder in training; the authors' code uses the batch's"
    )


class Attention(nn.Module):
    """One weight per support from the same input as the dense comparison (our reading of the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = TiledConv(width)
        self.conv2 = nn.Conv2d(width, 1, 3, padding=1, bias=False)  # the softmax would cancel a bias

    def forward(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """B x C x h x w and B x K x C -> weights B x K that sum to 1."""
        x = F.relu(self.conv1(query, prototypes).flatten(0, 1))
        scores: Tensor = self.conv2(F.max_pool2d(x, 3, ceil_mode=True))
        weights: Tensor = scores.mean((1, 2, 3)).unflatten(0, prototypes.shape[:2]).softmax(1)
        return weights


class CANet(Method):
    """Dense comparison with the support's prototype, then iterative refinement of the mask."""

    info = MethodInfo(
        title="CANet",
        paper="CANet: Class-Agnostic Segmentation Networks with Iterative Refinement and Attentive Few-Shot Learning",
        venue="CVPR",
        year=2019,
        url="https://arxiv.org/abs/1903.02351",
        code="https://github.com/icoz69/CaNet",
        backbones=("resnet50",),
        annotations=("mask", "box"),
    )
    Config = CANetConfig
    recipes = {"paper": PAPER, "lite": LITE}
    align_corners = True
    supports_first = False
    config: CANetConfig

    def __init__(self, config: CANetConfig) -> None:
        super().__init__(config)
        self.encoder, stages = middle_encoder(config.backbone)
        self.encoder.requires_grad_(False)
        self.stages = {"both": stages, "lower": stages[:1], "upper": stages[1:]}[config.levels]
        inputs = sum(self.encoder.channels[stage] for stage in self.stages)
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)
        self.reduce = conv_block(inputs, config.width, 3, dilation=2, dropout=config.dropout)
        self.compare = DenseComparison(config.width, dropout=config.dropout)
        self.attention = Attention(config.width) if config.fusion == "attention" else None
        self.trunk = RefinementTrunk(config.width, config.dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 4 and not name.startswith("encoder."):
                nn.init.normal_(parameter, std=0.01)  # the authors' choice; biases keep torch's

    def train(self, mode: bool = True) -> Self:
        """Training mode; the frozen encoder keeps its running statistics if so configured."""
        super().train(mode)
        if self.config.batchnorm == "running":
            self.encoder.eval()
        return self

    def project(self, features: Features) -> Features:
        """`layer5` of the paper's middle-level features: B x 256 x h x w."""
        return {"feature": self.reduce(torch.cat([features[stage] for stage in self.stages], dim=1))}

    def encode_support(self, support: SupportBatch) -> Features:
        """The masked mean of the features: M x 256."""
        feature = support.features["feature"]
        mask = soft_mask(support)
        # The small constant in the denominator is the authors'; a support without object gives a zero prototype.
        mean = (mask * feature.float()).sum((2, 3)) / (mask.sum((2, 3)) + 0.0005)
        return {"prototype": mean.to(feature.dtype)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x h x w: logits, or mean probabilities for `confidence`; B x K x 2 x h x w for `or`."""
        comparison = self.comparison(episodes)
        shared = self.trunk.unguided(comparison)
        logits = self.refined(comparison, None, shared)
        for _ in range(self.config.refinements):
            logits = self.refined(comparison, logits.softmax(1), shared)
        shots = logits.reshape(episodes.size[0], -1, *logits.shape[1:])  # one map an episode if fused before
        if self.config.fusion == "or":
            return shots
        if self.config.fusion == "confidence":
            return shots.softmax(2).mean(1)
        return shots[:, 0]

    def decide(self, logits: Tensor) -> Tensor:
        """Argmax; with `or`, a pixel is foreground if any shot says so."""
        if self.config.fusion == "or":
            return strongest(logits, 2).amax(1)
        return strongest(logits, 1)

    def comparison(self, episodes: EpisodeBatch) -> Tensor:
        """The dense comparison with shots fused: B x C x h x w, or (B K) x C x h x w if they are fused later."""
        query = episodes.query["feature"]
        prototypes = episodes.support["prototype"][:, 0]  # B x K x C
        each: Tensor = self.compare(query, prototypes)
        if self.config.fusion in ("or", "confidence"):
            return each.flatten(0, 1)
        if self.attention is None:
            return total(each) / each.shape[1]
        weights: Tensor = self.attention(query, prototypes)
        return (each * weights[..., None, None, None]).sum(1)

    def refined(self, comparison: Tensor, history: Tensor | None, shared: Tensor | None = None) -> Tensor:
        """One pass: logits at feature resolution from the comparison and the history (None: zeros, the first pass).

        `shared`: what all passes have in common, as `RefinementTrunk` has it.
        """
        if history is None:
            history = comparison.new_zeros(comparison.shape[0], 2, *comparison.shape[2:])
        logits: Tensor = self.trunk(comparison, history, shared)
        return logits

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Mean cross entropy of one pass, upsampled to the query's input size.

        In the authors' code the history of a query is, with probability 0.3, the output that the network gave for it
        an epoch ago, else zeros. Here it is the output of a first pass without gradient over the same episode: as
        in theirs, a prediction made with dropout on, but by today's weights, and nothing is stored between epochs.
        """
        comparison = self.comparison(episodes)
        refined = self.refined(comparison, self.history(comparison))
        return {"main": query_loss(refined, episodes, align_corners=True)}

    @torch.no_grad()
    def history(self, comparison: Tensor) -> Tensor | None:
        """The history masks of a training pass, B x 2 x h x w; None: all are zeros."""
        drawn = torch.rand(comparison.shape[0], 1, 1, 1, device=comparison.device) < self.config.history_probability
        return self.refined(comparison, None).softmax(1) * drawn if drawn.any() else None

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of `Res_Deeplab` as the authors' train.py writes it."""
        if self.attention is not None:
            raise CheckpointError(
                "the authors' CANet checkpoints are 1-shot and hold no attention weights: expected fusion to be mean, "
                "confidence or or, found attention, which would stay random. Drop `--set fusion=attention`."
            )
        encoder = {name: f"encoder.body.{name}" for name in ("conv1", "bn1", "layer1", "layer2", "layer3")}
        aspp = {f"layer6_{i}": f"trunk.aspp.branches.{i}" for i in range(5)}
        load_converted(self, renamed(strip_prefix(state), {**TRUNK_NAMES, **encoder, **aspp}))
