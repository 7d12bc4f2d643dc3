"""Centre-pivot 4D convolutions over the correlations of two images (HSNet, ICCV 2021).

A 4D tensor here is B x C x ha x wa x hb x wb: a correlation of every query position (a) with every support
position (b). Everything takes any batch and size; nothing is remembered from one call to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 4  # of every group normalisation


class CentrePivotConv4d(nn.Module):
    """A 4D kernel of which only the two central planes are kept: one 2D convolution per image, added.

    The query's size stays, the support's n becomes ceil(n / stride).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x ha x wa x hb x wb -> B x C' x ha x wa x hb' x wb'."""
        return self.over_query(self.pruned(x)) + self.over_support(x)

    def pruned(self, x: Tensor) -> Tensor:
        """Every `stride`th support position, the ones whose query maps are convolved."""
        return x[..., :: self.stride, :: self.stride]

    def over_query(self, pruned: Tensor) -> Tensor:
        """Convolve the query maps of each support position that is left."""
        maps = pruned.permute(0, 4, 5, 1, 2, 3)  # B x hb' x wb' x C x ha x wa
        out: Tensor = self.conv1(maps.flatten(0, 2)).unflatten(0, maps.shape[:3])
        return out.permute(0, 3, 4, 5, 1, 2)

    def over_support(self, x: Tensor) -> Tensor:
        """Convolve the support maps of each query position."""
        maps = x.permute(0, 2, 3, 1, 4, 5)  # B x ha x wa x C x hb x wb
        out: Tensor = self.conv2(maps.flatten(0, 2)).unflatten(0, maps.shape[:3])
        return out.permute(0, 3, 1, 2, 4, 5)

    def of_correlation(self, query: Sequence[Tensor], support: Sequence[Tensor], rows: int) -> Tensor:
        """`forward` of `correlation(query, support)`, of which `rows` query rows exist at a time."""
        pruned, squeezed = [], []
        for some in zip(*(maps.split(rows, dim=2) for maps in query), strict=True):
            part = correlation(some, support)
            pruned.append(self.pruned(part).contiguous())
            squeezed.append(self.over_support(part))
        return self.over_query(torch.cat(pruned, dim=2)) + torch.cat(squeezed, dim=2)


class Squeeze(nn.Sequential):
    """Correlations to `widths[-1]` channels: convolution, group normalisation and ReLU for each kernel and stride."""

    def __init__(self, inputs: int, widths: Iterable[int], kernels: Iterable[int], strides: Iterable[int]) -> None:
        layers: list[nn.Module] = []
        for outputs, kernel, stride in zip(widths, kernels, strides, strict=True):
            layers += [CentrePivotConv4d(inputs, outputs, kernel, stride), nn.GroupNorm(GROUPS, outputs), nn.ReLU()]
            inputs = outputs
        super().__init__(*layers)

    def of_correlation(self, query: Sequence[Tensor], support: Sequence[Tensor], budget: int) -> Tensor:
        """`forward` of `correlation(query, support)`, of which up to `budget` bytes exist at a time, or one row."""
        rows = max(1, budget * query[0].shape[2] // correlation_bytes(query, support))
        x = self.first.of_correlation(query, support, rows)
        for layer in list(self)[1:]:
            x = layer(x)
        return x

    @property
    def first(self) -> CentrePivotConv4d:
        """The convolution that sees the correlations."""
        return cast(CentrePivotConv4d, self[0])


def correlation(query: Sequence[Tensor], support: Sequence[Tensor]) -> Tensor:
    """Cosines of all positions, negative ones set to 0: L pairs of B x C x h x w -> B x L x ha x wa x hb x wb.

    All query maps have one size and all support maps have one size; vectors are already normalised.
    """
    each = [q.flatten(2).transpose(1, 2) @ s.flatten(2) for q, s in zip(query, support, strict=True)]
    # Stacked in the order in which `over_support` wants it, so that the largest tensor is copied only once.
    stacked = torch.stack(each, dim=2).clamp_(min=0)  # B x (ha wa) x L x (hb wb)
    (b, _, levels, _), a_size, b_size = stacked.shape, query[0].shape[2:], support[0].shape[2:]
    return stacked.view(b, *a_size, levels, *b_size).permute(0, 3, 1, 2, 4, 5)


def correlation_bytes(query: Sequence[Tensor], support: Sequence[Tensor]) -> int:
    """What `correlation` needs at its peak: the single maps and their stack."""
    positions = query[0].shape[2:].numel() * support[0].shape[2:].numel()
    return 2 * len(query) * query[0].shape[0] * positions * query[0].element_size()


def resize_query(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the query's dimensions bilinearly, corners aligned."""
    maps = x.permute(0, 4, 5, 1, 2, 3)  # B x hb x wb x C x ha x wa
    resized = F.interpolate(maps.flatten(0, 2), size, mode="bilinear", align_corners=True)
    out: Tensor = resized.unflatten(0, maps.shape[:3])
    return out.permute(0, 3, 4, 5, 1, 2)
