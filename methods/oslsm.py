"""OSLSM: One-Shot Learning for Semantic Segmentation (BMVC 2017).

A conditioning branch turns the masked support image into the weights of a logistic regression, which is applied to
every position of the query's FCN-32s features. K shots are K classifiers whose masks are joined by OR.

As the authors' deploy prototxt: support pixels outside the mask become the mean colour, the query is padded by 121
and its scores cropped at 40, pools round their output size up, void pixels count as background in the loss.
Differences: the paper's hash was put into the authors' caffemodels by hand and its draw was never published; ours is
a seeded draw (`hash_seed`), kept in the checkpoint, and a converted checkpoint brings its own. `--weights imagenet`
starts the convolutions only, where theirs also had ImageNet's fully connected layers. A backbone other than VGG-16
is our reading: fc6 is padded by 3 in place of the wide border, scores are resized bilinearly (`stride`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone, Needs, build_backbone, vgg
from fssbench.errors import CheckpointError
from fssbench.method import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VOID,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    Term,
    load_converted,
)
from methods.blocks import VGG_CONVOLUTIONS, resize
from methods.recipes.oslsm import LITE, PAPER

CAFFE_MEAN, CAFFE_STD = (0.4810938, 0.45752459, 0.40787055), (1 / 255, 1 / 255, 1 / 255)  # RGB; pixels are BGR
BORDER, CROP = 121, 40  # padding of conv1_1s; first row and column of the upsampled scores that belongs to the query
STRIDE = 32


class OSLSMConfig(MethodConfig):
    """Options of OSLSM; the defaults are the authors'. The smaller the widths, the smaller the 277 M parameters."""

    backbone: str = "vgg16"
    size: tuple[int, int] = Field((500, 500), description="of the query")
    support_size: tuple[int, int] = (224, 224)
    width: int = Field(4096, ge=1, description="channels of fc6 and fc7, hence weights of the logistic regression")
    codes: int = Field(1000, ge=1, description="outputs of the conditioning branch that are hashed to the weights")
    hash_seed: int = Field(0, ge=0, description="of the draw that assigns codes and signs to weights")
    dropout: float = Field(0.5, ge=0, lt=1, description="after fc6 and fc7 of both branches")
    stride: Literal[8, 16, 32] = Field(32, description="of a query branch that is not VGG-16, whose stride is 32")


class Multipliers(NamedTuple):
    """What the recipe's learning rate and weight decay are multiplied by for one parameter."""

    rate: float
    decay: float


class CaffeVGG(Backbone):
    """VGG-16 as in its Caffe release: pools round up, pixels are BGR on a scale of 255."""

    def __init__(self, border: int = 1) -> None:
        net = vgg("vgg16", ceil_mode=True)
        signature = f"{net.signature} caffe border={border}"
        super().__init__(
            net.name, net.body, net._steps, net.channels, signature, net._imagenet, CAFFE_MEAN, CAFFE_STD,
            strides=net.strides,
        )  # fmt: skip
        first_convolution(self).padding = (border, border)

    def load_imagenet(self) -> None:
        """Torchvision's weights, with its preprocessing folded into the first convolution."""
        super().load_imagenet()
        fold_preprocessing(first_convolution(self))


def at_stride(name: str, stride: int) -> Backbone:
    """A backbone that ends at a stride: the layers behind it are made for that many positions."""
    return build_backbone(name, stride, needs=Needs(strides={"c5": stride}))


@torch.no_grad()
def fold_preprocessing(conv: nn.Conv2d) -> None:
    """Turn a convolution of RGB pixels in torchvision's normalisation into the same one of Caffe's pixels."""
    if conv.bias is None:
        raise ValueError("the first convolution of VGG-16 has a bias")
    mean, caffe = conv.weight.new_tensor(IMAGENET_MEAN), conv.weight.new_tensor(CAFFE_MEAN)
    weight = conv.weight / conv.weight.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    conv.bias += (weight * (caffe - mean).view(1, 3, 1, 1)).sum((1, 2, 3))
    conv.weight.copy_(weight.flip(1) / 255)


def first_convolution(net: Backbone) -> nn.Conv2d:
    """conv1_1 of a VGG."""
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def draw_hash(codes: int, weights: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The paper's kappa, uniform in 0..codes-1 with replacement, and zeta, a fair sign; both of length `weights`."""
    generator = np.random.default_rng(seed)
    kappa = generator.integers(codes, size=weights)
    zeta = 1 - 2 * generator.integers(2, size=weights)
    return kappa, zeta


def hash_matrix(kappa: NDArray[np.int64], zeta: NDArray[np.int64], codes: int) -> Tensor:
    """weights x codes: row i holds zeta[i] in column kappa[i], so that matrix @ x is zeta[i] * x[kappa[i]]."""
    matrix = torch.zeros(len(kappa), codes)
    matrix[torch.arange(len(kappa)), torch.from_numpy(kappa)] = torch.from_numpy(zeta).float()
    return matrix


def bilinear_kernel(stride: int = STRIDE) -> Tensor:
    """1 x 1 x 2s x 2s, the kernel of a transposed convolution that enlarges bilinearly by s."""
    side = 1 - (torch.arange(2 * stride) - (stride - 0.5)).abs() / stride
    return torch.outer(side, side)[None, None]


class FrozenLinear(nn.Module):
    """A linear layer that is never trained: buffers `weight` and `bias`, saved in the checkpoint."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(len(weight)))

    def forward(self, x: Tensor) -> Tensor:
        """... x inputs -> ... x outputs."""
        return F.linear(x, self.get_buffer("weight"), self.get_buffer("bias"))


class FrozenUpsampling(nn.Module):
    """The fixed transposed convolution that brings scores to the (padded) query's size; a buffer `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", bilinear_kernel())

    def forward(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """B x K x h x w -> B x K x H x W, the part that belongs to the query."""
        enlarged = F.conv_transpose2d(scores.flatten(0, 1).unsqueeze(1), self.get_buffer("weight"), stride=STRIDE)
        cropped: Tensor = enlarged[:, 0, CROP : CROP + size[0], CROP : CROP + size[1]]
        return cropped.reshape(*scores.shape[:2], *size)


class OSLSM(Method):
    """Weights of a logistic regression from the support, hashed; applied to the query's fc7."""

    info = MethodInfo(
        title="OSLSM",
        paper="One-Shot Learning for Semantic Segmentation",
        venue="BMVC",
        year=2017,
        url="https://arxiv.org/abs/1709.03410",
        code="https://github.com/lzzcd001/OSLSM",
        backbones=("vgg16",),
    )
    Config = OSLSMConfig
    checked_with = ("stride=8", "width=32", "codes=50", "support_size=64,64", "dropout=0")
    recipes = {"paper": PAPER, "lite": LITE}
    encodes_support = False
    config: OSLSMConfig
    encoder: Backbone

    def __init__(self, config: OSLSMConfig) -> None:
        super().__init__(config)
        self.caffe = config.backbone == "vgg16"
        self.encoder = CaffeVGG(BORDER) if self.caffe else at_stride(config.backbone, config.stride)
        self.conditioner: Backbone = CaffeVGG() if self.caffe else at_stride(config.backbone, STRIDE)
        channels, width = self.encoder.channels["c5"], config.width
        positions = -(-config.support_size[0] // STRIDE) * -(-config.support_size[1] // STRIDE)
        self.fc6s = nn.Conv2d(channels, width, 7, padding=0 if self.caffe else 3)
        self.fc7s = nn.Conv2d(width, width, 1)
        self.fc6f = nn.Linear(channels * positions, width)
        self.fc7f = nn.Linear(width, width)
        self.fc8f = nn.Linear(width, config.codes)
        hashed = hash_matrix(*draw_hash(config.codes, width + 1, config.hash_seed), config.codes)
        self.rw1s, self.rb1s = FrozenLinear(hashed[:-1]), FrozenLinear(hashed[-1:])
        self.uppred_offset = FrozenUpsampling()
        self.query_input = self._input(config.size)

    @property
    def support_input(self) -> Preprocess:
        """Supports are smaller than queries, the size of ImageNet's training images."""
        return self._input(self.config.support_size)

    def _input(self, size: tuple[int, int]) -> Preprocess:
        return Preprocess(size, mean=self.encoder.mean, std=self.encoder.std, channels="bgr" if self.caffe else "rgb")

    def project(self, features: Features) -> Features:
        """`fc7`, B x 4096 x h x w: what the logistic regression looks at."""
        x = self._dropout(F.relu(self.fc6s(self._last_map(features))))
        return {"fc7": self._dropout(F.relu(self.fc7s(x)))}

    def encode_support(self, support: SupportBatch) -> Features:
        """`code`, M x 1000: the conditioning branch's output (fc8f) for the masked image."""
        # The mean was subtracted before, so what is masked out has the mean's colour, not black.
        masked = support.pixels * support.foreground.to(support.pixels.dtype)
        x = self._last_map(self.conditioner(masked)).flatten(1)
        x = self._dropout(F.relu(self.fc6f(x)))
        x = self._dropout(F.relu(self.fc7f(x)))
        return {"code": self.fc8f(x)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x H x W at the query's input size: 0 and the logit; the sigmoid exceeds 1/2 where it is positive."""
        logit = self.scores(episodes).amax(1)  # the OR of the K masks
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def scores(self, episodes: EpisodeBatch) -> Tensor:
        """The logits of each shot's classifier at the query's input size: B x K x H x W."""
        weights, biases = self.classifiers(episodes.support["code"][:, 0])
        low = regress(episodes.query["fc7"], weights, biases)
        if self.caffe:
            upsampled: Tensor = self.uppred_offset(low, episodes.query_shape)
            return upsampled
        return resize(low, episodes.query_shape)

    def classifiers(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """B x K x 1000 -> weights B x K x 4096 and biases B x K of the logistic regressions."""
        return self.rw1s(codes), self.rb1s(codes)[..., 0]

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Sigmoid cross entropy SUMMED over labelled pixels, divided by the batch size; hence the rate of 1e-10."""
        if episodes.query_labels is None:
            raise ValueError("OSLSM.losses expects episodes with query_labels")
        logit = self.scores(episodes).amax(1)
        target = (episodes.query_labels == 1).to(logit.dtype)
        valid = (episodes.query_labels != VOID).to(logit.dtype)
        return {"main": F.binary_cross_entropy_with_logits(logit, target, valid, reduction="sum") / len(logit)}

    def parameter_groups(self) -> dict[str, Multipliers]:
        """The prototxt's multipliers by parameter: the conditioning branch learns at a tenth, biases at double rate.

        The recipe: SGD, learning rate 1e-10, momentum 0.99, weight decay 5e-4, gradients of 10 episodes averaged.
        """
        conditioning = ("conditioner.", "fc6f.", "fc7f.", "fc8f.")
        multipliers = {}
        for name, _ in self.named_parameters():
            branch, bias = 0.1 if name.startswith(conditioning) else 1.0, name.endswith(".bias")
            multipliers[name] = Multipliers(rate=branch * (2 if bias else 1), decay=0.0 if bias else 1.0)
        return multipliers

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a converted caffemodel: blob 0 of a layer as `<layer>.weight`, blob 1 as `<layer>.bias`.

        Layers are named as in the prototxt: `conv1_1s` .. `conv5_3s`, `fc6s`, `fc7s`, the same with `f` and `fc8f`,
        `rw1s`, `rb1s` (the hash), `uppred_offset`.
        """
        if not self.caffe:
            raise CheckpointError(
                f"the authors' OSLSM has VGG-16: expected --backbone vgg16, found {self.config.backbone}"
            )
        names = official_names("encoder", "s") | official_names("conditioner", "f")
        load_converted(self, {names.get(name, name): value for name, value in state.items()})

    def _last_map(self, features: Features) -> Tensor:
        """The last stage at stride 32; of VGG that is its fifth pool."""
        return F.max_pool2d(features["c5"], 2, ceil_mode=True) if self.caffe else features["c5"]

    def _dropout(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


def regress(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Logits of pixel-wise logistic regressions: B x C x h x w, B x K x C and B x K -> B x K x h x w."""
    return torch.einsum("bchw,bkc->bkhw", features, weights) + biases[..., None, None]


def official_names(branch: str, suffix: str) -> dict[str, str]:
    """The prototxt's names of one branch's convolutions to ours."""
    return {
        f"conv{block + 1}_{number + 1}{suffix}.{leaf}": f"{branch}.body.features.{index}.{leaf}"
        for (block, number), index in VGG_CONVOLUTIONS.items()
        for leaf in ("weight", "bias")
    }
