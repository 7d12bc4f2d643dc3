"""3x3 convolutions by Winograd's minimal filtering, F(4x4, 3x3): Lavin and Gray, CVPR 2016, arXiv:1509.09308.

16 neighbouring outputs take 36 products of two channels instead of 144. cuDNN does so by itself; for processors
PyTorch has only direct convolutions, which take 1.1 to 1.7 times as long where channels and maps are as large as here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, POSITIONS = 128, 600  # with fewer, in or out, or on a smaller map, the transforms cost more than they save
COVERED = 1.3  # positions of all tiles, as times those of the map: a large dilation leaves tiles nearly empty


# The paper's B^T, G and A^T, of the points 0, 1, -1, 2, -2 and infinity.
# fmt: off
OF_TILE = torch.tensor([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1.0],
])
OF_KERNEL = torch.tensor([
    [6, 0, 0],
    [-4, -4, -4],
    [-4, 4, -4],
    [1, 2, 4],
    [1, -2, 4],
    [0, 0, 24.0],
]) / 24
OF_PRODUCTS = torch.tensor([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1.0],
])
# fmt: on
TO_ALL = 7  # of the 6 x 6 products, the one that every output contains once


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x h x w -> B x C' x h x w."""
        return conv3x3(x, self.weight, self.bias)


def as_conv3x3(network: nn.Module) -> None:
    """Make each 3x3 convolution of a network that keeps the size a `Conv3x3`; names and parameters stay."""
    for layer in network.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.kernel_size == (3, 3)
        if plain and layer.stride == layer.padding == layer.dilation == (1, 1):
            layer.__class__ = Conv3x3


def conv3x3(x: Tensor, kernels: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """`F.conv2d` that keeps the size; without gradients and on a processor by `winograd`, where that is faster."""
    height, width = x.shape[2:]
    covered = 16 * dilation**2 * _tiles(height, dilation) * _tiles(width, dilation)
    unfit = min(kernels.shape[:2]) < CHANNELS or height * width < POSITIONS or covered > COVERED * height * width
    direct = x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if direct or unfit or x.dtype != torch.float32:
        return F.conv2d(x, kernels, bias, padding=dilation, dilation=dilation)
    return winograd(x, kernels, bias, dilation)


def winograd(x: Tensor, kernels: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """B x C x h x w and C' x C x 3 x 3 -> B x C' x h x w, to 1e-5 of the largest output; zeros beyond the border.

    A position's channels lie side by side in the result, and best do so in `x`.
    """
    (outputs, inputs), (height, width), step = kernels.shape[:2], x.shape[2:], dilation
    rows, columns = _tiles(height, step), _tiles(width, step)
    below, right = step * (4 * rows + 1) - height, step * (4 * columns + 1) - width
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, step, right, step, below)).contiguous()
    line, tile = padded.shape[2] * inputs, (6, 6, rows, step, columns, step, inputs)
    strides = step * line, step * inputs, 4 * step * line, line, 4 * step * inputs, inputs, 1
    by_place = kernels.permute(2, 3, 0, 1).reshape(3, 3, -1)
    factors = _both_ways(OF_KERNEL, by_place).view(36, outputs, inputs).transpose(1, 2)
    y = x.new_empty(len(x), height, width, outputs)
    for image, out in zip(padded, y, strict=True):  # one after another: less memory, and no image sees another
        tiles = _both_ways(OF_TILE, image.as_strided(tile, strides).reshape(6, 6, -1))
        products = tiles.view(36, -1, inputs) @ factors
        if bias is not None:
            products[TO_ALL] += bias
        sums = _both_ways(OF_PRODUCTS, products.view(6, 6, -1))
        found = sums.view(4, 4, *tile[2:6], outputs).permute(2, 0, 3, 4, 1, 5, 6)
        for (above, down), (left, across) in product(_blocks(height, step), _blocks(width, step)):
            block = found[(*down, *across)]
            out[above, left].unflatten(1, block.shape[3:6]).unflatten(0, block.shape[:3]).copy_(block)
    return y.permute(0, 3, 1, 2)


def _both_ways(matrix: Tensor, squares: Tensor) -> Tensor:
    """N squares, k x k x N, transformed by a matrix of r x k along their columns, then along their rows: r x r x N."""
    columns: Tensor = (matrix @ squares.flatten(1)).unflatten(1, squares.shape[1:])
    return matrix @ columns


def _blocks(length: int, dilation: int) -> Iterator[tuple[slice, tuple[slice, slice, slice]]]:
    """The positions of an axis in up to three runs, each with its slices of tiles, of 4 outputs and of the dilation.

    The last tile may reach beyond the axis: of it come the outputs that are whole, and of the next one the rest.
    """
    tiles, rest = divmod(length, 4 * dilation)
    outputs, left = divmod(rest, dilation)
    whole, last = slice(dilation), slice(tiles, tiles + 1)
    start = 0
    for count, run in (
        (length - rest, (slice(tiles), slice(4), whole)),
        (rest - left, (last, slice(outputs), whole)),
        (left, (last, slice(outputs, outputs + 1), slice(left))),
    ):
        if count:
            yield slice(start, start + count), run
        start += count


def _tiles(length: int, dilation: int) -> int:
    """How many tiles of 4 cover every `dilation`th position."""
    return -(-length // (4 * dilation))
