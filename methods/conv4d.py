"""Centre-pivot 4D convolutions over the correlations of two images (HSNet, ICCV 2021).

A 4D tensor here is B x C x ha x wa x hb x wb: a correlation of every query position (a) with every support
position (b). Everything takes any batch and size; nothing is remembered from one call to the next. In memory the
query's positions come last where they can: few copies, and those along memory. Once the support has shrunk to a few
positions, the channels come last, as matrix products and Winograd's convolutions want them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.positions import window
from methods.winograd import Conv3x3

GROUPS = 4  # of every group normalisation
SMALL = 4  # positions along each axis of the support to which a convolution goes by matrix products


class CentrePivotConv4d(nn.Module):
    """A 4D kernel of which only the two central planes are kept: one 2D convolution per image, added.

    The query's size stays, the support's n becomes ceil(n / stride).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = (
            Conv3x3(inputs, outputs) if kernel == 3 else nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        )
        self.conv2 = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x ha x wa x hb x wb -> B x C' x ha x wa x hb' x wb'."""
        if max(x.shape[4:]) <= SMALL * self.stride:
            return self.of_small(x)
        return self.over_support(x) + self.over_query(self.pruned(x))

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
        if not maps.is_contiguous():
            maps = swapped(x.permute(0, 1, 4, 5, 2, 3), 3)
        out = swapped(self.conv2(maps.flatten(0, 2)).unflatten(0, maps.shape[:3]), 2)  # B x C' x hb' x wb' x ha x wa
        return out.permute(0, 1, 4, 5, 2, 3)

    def of_small(self, x: Tensor) -> Tensor:
        """`forward` to few support positions: each is a matrix product of what its kernel sees, without the padding."""
        maps = x.permute(0, 2, 3, 4, 5, 1)  # B x ha x wa x hb x wb x C
        if not maps.is_contiguous():
            maps = swapped(x.permute(0, 4, 5, 1, 2, 3), 3)
        kernel = self.conv2.weight.permute(0, 2, 3, 1)  # C' x k x k x C
        rows, columns = map(self.windows, x.shape[4:])
        each = [
            F.linear(maps[:, :, :, row, column].flatten(3), kernel[:, above, left].flatten(1), self.conv2.bias)
            for row, above in rows
            for column, left in columns
        ]
        over_support: Tensor = torch.stack(each, dim=3).unflatten(3, (len(rows), len(columns)))
        pruned = maps[:, :, :, :: self.stride, :: self.stride].permute(0, 3, 4, 1, 2, 5)
        of_query = pruned.flatten(0, 2).permute(0, 3, 1, 2)  # (B hb' wb') x C x ha x wa
        over_query: Tensor = self.conv1(of_query).permute(0, 2, 3, 1).unflatten(0, pruned.shape[:3])
        over_support += over_query.permute(0, 3, 4, 1, 2, 5)
        return over_support.permute(0, 5, 1, 2, 3, 4)

    def windows(self, length: int) -> list[tuple[slice, slice]]:
        """For each of the result's positions along an axis, which positions the kernel sees and its own part there."""
        size = int(self.conv2.kernel_size[0])
        starts = range(-(size // 2), length - size // 2, self.stride)
        seen = [slice(max(0, start), min(length, start + size)) for start in starts]
        return [(one, slice(one.start - start, one.stop - start)) for one, start in zip(seen, starts, strict=True)]

    def of_correlation(self, query: Sequence[Tensor], support: Sequence[Tensor], rows: int) -> Tensor:
        """`forward` of `correlation(query, support)`, of which `rows` query rows exist at a time.

        Outside the mask a support's vectors are 0, and so is whatever they are compared with. What no position inside
        reaches is not computed: it is what the convolutions make of zeros.
        """
        sides, reached = support[0].shape[2:], self.reached(support)
        some = [slice(one.start * self.stride, one.stop * self.stride) for one in reached]
        support = [maps[:, :, some[0], some[1]].contiguous() for maps in support]
        pruned, squeezed = [], []
        for lines in zip(*(maps.split(rows, dim=2) for maps in query), strict=True):
            part = correlation(lines, support)
            pruned.append(self.pruned(part).contiguous())
            squeezed.append(self.over_support(part))
        inside = _joined(squeezed) + self.over_query(_joined(pruned))
        beyond: Tensor = self(inside.new_zeros(1, len(query), 1, 1, 1, 1))
        shape = [*inside.shape[:2], *(-(-side // self.stride) for side in sides), *inside.shape[2:4]]
        out = beyond.expand(shape).contiguous().permute(0, 1, 4, 5, 2, 3)
        out[..., reached[0], reached[1]] = inside
        return out

    def reached(self, support: Sequence[Tensor]) -> list[slice]:
        """Rows and columns of the result to which any position inside the mask contributes."""
        ends = [end for maps in support for end in (maps.detach().amax(1), maps.detach().amin(1))]
        inside = torch.stack(ends).ne(0).any(0)  # B x hb x wb
        half = self.conv2.kernel_size[0] // 2
        return [
            slice(
                max(0, (span.start - half) // self.stride),
                min(-(-side // self.stride), (span.stop - 1 + half) // self.stride + 1),
            )
            for span, side in zip(window(inside), inside.shape[1:], strict=True)
        ]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts of the query's rows as one tensor."""
    return torch.cat([*parts], dim=2) if len(parts) > 1 else parts[0]


class GroupNorm4d(nn.GroupNorm):
    """Group normalisation that reads B x C x ha x wa x hb x wb as it lies in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """The same, normalised."""
        if channels_last(x):
            maps = x.permute(0, 2, 3, 4, 5, 1)
            rows = maps.reshape(len(x), -1, 1, x.shape[1]).permute(0, 3, 1, 2)  # with which PyTorch sees the layout
            return super().forward(rows).permute(0, 2, 3, 1).view_as(maps).permute(0, 5, 1, 2, 3, 4)
        return super().forward(x.permute(0, 1, 4, 5, 2, 3)).permute(0, 1, 4, 5, 2, 3)


class Squeeze(nn.Sequential):
    """Correlations to `widths[-1]` channels: convolution, group normalisation and ReLU for each kernel and stride."""

    def __init__(self, inputs: int, widths: Iterable[int], kernels: Iterable[int], strides: Iterable[int]) -> None:
        layers: list[nn.Module] = []
        for outputs, kernel, stride in zip(widths, kernels, strides, strict=True):
            layers += [
                CentrePivotConv4d(inputs, outputs, kernel, stride),
                GroupNorm4d(GROUPS, outputs),
                nn.ReLU(inplace=True),
            ]
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
    (b, _, *a_size), b_size = query[0].shape, support[0].shape[2:]
    # In the order in which `over_support` wants it: B x (ha wa) x L x (hb wb), the largest tensor there is.
    cosines = query[0].new_empty(b, a_size[0] * a_size[1], len(query), b_size.numel())
    for level, (q, s) in enumerate(zip(query, support, strict=True)):
        cosines[:, :, level] = (q.flatten(2).transpose(1, 2) @ s.flatten(2)).clamp_(min=0)
    return cosines.view(b, *a_size, len(query), *b_size).permute(0, 3, 1, 2, 4, 5)


def swapped(x: Tensor, first: int) -> Tensor:
    """B x the `first` dimensions x the others -> B x the others x the `first`, contiguous."""
    # One by one: PyTorch goes in blocks through a matrix alone.
    turned = [one.t().contiguous() for one in x.flatten(first + 1).flatten(1, first)]
    both = torch.stack(turned) if len(turned) > 1 else turned[0]
    return both.view(len(x), *x.shape[first + 1 :], *x.shape[1 : first + 1])


def correlation_bytes(query: Sequence[Tensor], support: Sequence[Tensor]) -> int:
    """What `correlation` needs at its peak: all maps' cosines, and one map's before they are put into place."""
    positions = query[0].shape[2:].numel() * support[0].shape[2:].numel()
    return (len(query) + 1) * query[0].shape[0] * positions * query[0].element_size()


def resize_query(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the query's dimensions bilinearly, corners aligned."""
    there, back = ((0, 4, 5, 1, 2, 3), (0, 3, 4, 5, 1, 2)) if channels_last(x) else ((0, 1, 4, 5, 2, 3),) * 2
    maps = x.permute(there)  # B x C x hb x wb x ha x wa, C where memory has it
    resized = F.interpolate(maps.flatten(1, 3), size, mode="bilinear", align_corners=True)
    out: Tensor = resized.unflatten(1, maps.shape[1:4])
    return out.permute(back)


def channels_last(x: Tensor) -> bool:
    """Whether the channels of one pair of positions lie side by side."""
    return x.stride(1) == 1
