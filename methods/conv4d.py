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

from methods.positions import positions_first

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
        inside = positions_inside(support)
        for some in zip(*(maps.split(rows, dim=2) for maps in query), strict=True):
            part = correlation(some, support, inside)
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


def correlation(query: Sequence[Tensor], support: Sequence[Tensor], inside: Tensor | None = None) -> Tensor:
    """Cosines of all positions, negative ones set to 0: L pairs of B x C x h x w -> B x L x ha x wa x hb x wb.

    All query maps have one size and all support maps have one size; vectors are already normalised. `inside`, as
    `positions_inside` gives it, are the support positions to compare; at all others the vectors are 0.
    """
    inside = positions_inside(support) if inside is None else inside
    (b, _, *a_size), b_size = query[0].shape, support[0].shape[2:]
    # In the order in which `over_support` wants it: B x (ha wa) x L x (hb wb), the largest tensor there is.
    cosines = query[0].new_zeros(b, a_size[0] * a_size[1], len(query), b_size.numel())
    for level, (q, s) in enumerate(zip(query, support, strict=True)):
        vectors, some = s.flatten(2), inside.shape[1] < b_size.numel()
        if some:
            vectors = vectors.gather(2, inside[:, None].expand(-1, s.shape[1], -1))  # B x C x S
        products = (q.flatten(2).transpose(1, 2) @ vectors).clamp_(min=0).to(cosines.dtype)  # B x (ha wa) x S
        if some:
            cosines[:, :, level].scatter_(2, inside[:, None].expand_as(products), products)
        else:
            cosines[:, :, level] = products
    return cosines.view(b, *a_size, len(query), *b_size).permute(0, 3, 1, 2, 4, 5)


def positions_inside(support: Sequence[Tensor]) -> Tensor:
    """Indices of the positions where any of the maps B x C x h x w has a value, then others: B x S.

    Outside the mask a support's vectors are 0, and so is whatever they are compared with.
    """
    reach = torch.stack([maps.detach().abs().amax(1) for maps in support]).amax(0).flatten(1)  # B x (h w)
    return positions_first(reach > 0)


def correlation_bytes(query: Sequence[Tensor], support: Sequence[Tensor]) -> int:
    """What `correlation` needs at its peak: all maps' cosines, and one map's before they are put into place."""
    positions = query[0].shape[2:].numel() * support[0].shape[2:].numel()
    return (len(query) + 1) * query[0].shape[0] * positions * query[0].element_size()


def resize_query(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the query's dimensions bilinearly, corners aligned."""
    maps = x.permute(0, 4, 5, 1, 2, 3)  # B x hb x wb x C x ha x wa
    resized = F.interpolate(maps.flatten(0, 2), size, mode="bilinear", align_corners=True)
    out: Tensor = resized.unflatten(0, maps.shape[:3])
    return out.permute(0, 3, 4, 5, 1, 2)
