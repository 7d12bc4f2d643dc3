"""What CANet, PMMs and RPMMs share: middle-level features, the dense comparison, and the refinement trunk.

All three compare every query pixel with a 256-vector of the support by one dilated 3x3 convolution, and turn the
comparison and a two-channel map (CANet: the mask of the pass before; PMMs: a probability map) into logits with three
residual blocks, ASPP and a classifier. PMMs and RPMMs took this trunk over from CANet's published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fssbench.backbones import Backbone, Needs, build_backbone, resnet
from fssbench.method import EpisodeBatch, SupportBatch, Term
from methods.blocks import cross_entropy, resize
from methods.winograd import Conv3x3, conv3x3

WIDTH = 256  # channels of every map in the published heads

# The authors' names of the shared layers, and ours.
TRUNK_NAMES = {
    "layer5": "reduce",
    "layer55.0": "compare.conv",
    "layer55.1": "compare.norm",
    "residule1": "trunk.residual1",
    "residule2": "trunk.residual2",
    "residule3": "trunk.residual3",
    "layer7": "trunk.merge",
    "layer9": "trunk.classify",
}


def middle_encoder(name: str) -> tuple[Backbone, tuple[str, ...]]:
    """An encoder of output stride 8, and the names of its stages that make the middle-level features.

    ResNets are laid out as in the authors' code: no fourth layer, strides on the first 1x1 convolutions, dilation 2
    in the whole third layer, `ceil_mode` in the pool. Other backbones give their two stages of the same depth.
    """
    if name.startswith("resnet"):
        encoder = resnet(
            name,
            dilations=(1, 1, 2, 1),
            depth=3,
            stride_on_first=True,
            dilate_first_block=True,
            ceil_mode=True,
        )
        return encoder, ("c3", "c4")
    if name.startswith("vgg"):
        return build_backbone(name, 8, needs=Needs(one_size=("c4", "c5"))), ("c4", "c5")
    return build_backbone(name, 8, 4, Needs(one_size=("c3", "c4"))), ("c3", "c4")


def freeze_batchnorm_affine(module: nn.Module) -> None:
    """No gradient for the scale and shift of any BatchNorm below `module`; its statistics are another matter."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)


def conv_block(
    inputs: int, width: int, kernel: int, dilation: int = 1, *, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """A convolution to `width` channels, ReLU, and BatchNorm before or Dropout2d after it."""
    plain = kernel == 3 and dilation == 1
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        Conv3x3(inputs, width) if plain else nn.Conv2d(inputs, width, kernel, padding=padding, dilation=dilation)
    ]
    layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU(), nn.Dropout2d(dropout)]
    return nn.Sequential(*layers)


class TiledConv(nn.Conv2d):
    """A 3x3 convolution of concat[map, tiled vector] that never builds the tiled map.

    The convolution is linear: the map's half is computed once, however many vectors it is compared with, and a
    vector's half is nine matrix-vector products that the zero padding switches off along the border.
    """

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__(2 * width, width, 3, padding=dilation, dilation=dilation)

    def forward(  # type: ignore[override]
        self, maps: Tensor, vectors: Tensor, norm: nn.BatchNorm2d | None = None
    ) -> Tensor:
        """B x C x h x w and B x S x C -> B x S x C x h x w, normalised by the running statistics of `norm`."""
        of_map, of_vector = self.weight.chunk(2, dim=1)
        dilation = self.dilation[0]
        shared = conv3x3(maps, of_map, self.bias, dilation)
        inside = F.unfold(maps.new_ones(1, 1, *maps.shape[2:]), 3, dilation, dilation)[0]  # 9 x hw
        taps = torch.einsum("ocyx,bsc->bsyxo", of_vector, vectors).flatten(2, 3)  # B x S x 9 x C
        if norm is not None:  # which is linear: the map's half is normalised, the vectors' only scaled
            shared = norm(shared)
            taps = taps * (norm.weight / (cast(Tensor, norm.running_var) + norm.eps).sqrt())
        tiled: Tensor = (inside.T @ taps).unflatten(2, maps.shape[2:]).permute(0, 1, 4, 2, 3)
        return tiled.add_(shared.unsqueeze(1))


class DenseComparison(nn.Module):
    """`layer55`: query features against S vectors at once."""

    def __init__(self, width: int, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = TiledConv(width, dilation=2)
        self.norm = nn.BatchNorm2d(width) if norm else None
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, query: Tensor, vectors: Tensor) -> Tensor:
        """B x C x h x w and B x S x C -> B x S x C x h x w."""
        if not any(layer.training for layer in self.children()):
            return F.relu_(self.conv(query, vectors, self.norm))
        # One vector after another: in training the authors' BatchNorm sees the comparisons with each apart.
        each = self.conv(query, vectors).unbind(1)
        normal = each if self.norm is None else [self.norm(one) for one in each]
        return torch.stack([self.dropout(F.relu(one)) for one in normal], dim=1)


def total(maps: Tensor) -> Tensor:
    """The sum over S of B x S x C x h x w, in memory as one of them; `sum` would turn it."""
    return reduce(torch.add, maps.unbind(1))


class GuidedConv(Conv3x3):
    """A 3x3 convolution of concat[map, guide of two channels], as the sum of the map's part and the guide's."""

    def __init__(self, width: int) -> None:
        super().__init__(width + 2, width)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:  # type: ignore[override]
        """B x C x h x w and B x 2 x h x w -> B x C x h x w."""
        return self.guided(self.unguided(x), guide)

    def unguided(self, x: Tensor) -> Tensor:
        """The map's part."""
        return conv3x3(x, self.weight[:, :-2], self.bias)

    def guided(self, unguided: Tensor, guide: Tensor) -> Tensor:
        """The sum; in memory the guide's part lies as the map's."""
        layout = torch.channels_last if unguided.stride(1) == 1 else torch.contiguous_format
        return unguided + F.conv2d(guide.contiguous(memory_format=layout), self.weight[:, -2:], padding=1)


def residual(width: int, first: nn.Module | None = None) -> nn.Sequential:
    """ReLU, 3x3 (or `first`), ReLU, 3x3: the correction that a refinement block adds."""
    return nn.Sequential(nn.ReLU(), first or Conv3x3(width, width), nn.ReLU(inplace=True), Conv3x3(width, width))


class ASPP(nn.Module):
    """Image level, 1x1, and 3x3 with dilations 6, 12, 18; the 1x1 branch is in the code, not in CANet's paper."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_block(width, width, 1, dropout=dropout),
                conv_block(width, width, 1, dropout=dropout),
                *(conv_block(width, width, 3, dilation, dropout=dropout) for dilation in (6, 12, 18)),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """B x C x h x w -> B x C x 1 x 1 of the image, and four B x C x h x w."""
        return [self.branches[0](x.mean((2, 3), keepdim=True)), *(branch(x) for branch in self.branches[1:])]


class RefinementTrunk(nn.Module):
    """Three residual blocks, the first of which sees a two-channel map as well; ASPP; classifier."""

    def __init__(self, width: int, dropout: float, *, norm: bool = False) -> None:
        super().__init__()
        self.residual1 = residual(width, GuidedConv(width))
        self.residual2 = residual(width)
        self.residual3 = residual(width)
        self.aspp = ASPP(width, dropout)
        self.merge = conv_block(5 * width, width, 1, norm=norm, dropout=dropout)
        self.classify = nn.Conv2d(width, 2, 1)

    def unguided(self, x: Tensor) -> Tensor:
        """The first convolution's part of the comparison, B x C x h x w, to which the guide's is added."""
        return self.first.unguided(F.relu(x))

    @property
    def first(self) -> GuidedConv:
        """The convolution of comparison and guide."""
        return cast(GuidedConv, self.residual1[1])

    def forward(self, x: Tensor, guide: Tensor, shared: Tensor | None = None) -> Tensor:
        """Comparison B x C x h x w and guide B x 2 x any size -> logits B x 2 x h x w, background first.

        `shared`: what `unguided` gave for this comparison, where it meets several guides.
        """
        guide = resize(guide, (x.shape[-2], x.shape[-1]), align_corners=True)
        shared = self.unguided(x) if shared is None else shared
        x = x + self.residual1[2:](self.first.guided(shared, F.relu(guide)))
        x = x + self.residual2(x)
        x = x + self.residual3(x)
        # A sum instead of a concatenation; the bias goes to the image level's single position.
        of_image, *of_maps = self.merge.get_parameter("0.weight").chunk(5, dim=1)
        image, *maps = self.aspp(x)
        merged = F.conv2d(image, of_image, self.merge.get_parameter("0.bias"))
        merged = reduce(torch.add, map(F.conv2d, maps, of_maps), merged)
        logits: Tensor = self.classify(self.merge[1:](merged))
        return logits


def soft_mask(support: SupportBatch) -> Tensor:
    """The supports' masks on the grid of their features, M x 1 x h x w in 0..1, float32."""
    height, width = support.features["feature"].shape[-2:]
    return resize(support.foreground, (height, width), align_corners=True)


def query_loss(logits: Tensor, episodes: EpisodeBatch, *, align_corners: bool) -> Term:
    """Mean cross entropy over the labelled pixels at the query's input size, in float32.

    `logits` is B x 2 x h x w, or (B S) x 2 x h x w for S maps an episode.
    """
    if episodes.query_labels is None:
        raise ValueError("a loss expects episodes with query_labels")
    labels = episodes.query_labels.repeat_interleave(len(logits) // episodes.size[0], dim=0)
    return cross_entropy(resize(logits.float(), episodes.query_shape, align_corners), labels)


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A state dict with the longest matching prefix (whole words between dots) of every key replaced."""

    def ours(key: str) -> str:
        for prefix in sorted(names, key=len, reverse=True):
            if key == prefix or key.startswith(f"{prefix}."):
                return names[prefix] + key[len(prefix) :]
        return key

    return {ours(key): value for key, value in state.items()}
