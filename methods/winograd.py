"""3x3 convolutions by Winograd's minimal filtering, F(4x4, 3x3): Lavin and Gray, CVPR 2016, arXiv:1509.09308.

16 neighbouring outputs take 36 products of two channels instead of 144. cuDNN does so by itself; for processors
PyTorch has only direct convolutions, which take 1.1 to 1.7 times as long where channels and maps are as large as here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, POSITIONS = 128, 600  # with fewer, in or out, or on a smaller map, the transforms cost more than they save


def _both_ways(rows: Tensor) -> Tensor:
    """What transforms a flattened square as the matrix transforms its columns and then its rows."""
    return torch.kron(rows, rows)


# The paper's B^T, G and A^T, of the points 0, 1, -1, 2, -2 and infinity.
# fmt: off
OF_TILE = _both_ways(torch.tensor([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1.0],
])).view(36, 1, 6, 6)
OF_KERNEL = _both_ways(torch.tensor([
    [6, 0, 0],
    [-4, -4, -4],
    [-4, 4, -4],
    [1, 2, 4],
    [1, -2, 4],
    [0, 0, 24.0],
]) / 24)  # 36 x 9
OF_PRODUCTS = _both_ways(torch.tensor([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1.0],
]))  # 16 x 36
# fmt: on


def as_conv3x3(network: nn.Module) -> None:
    """Make each 3x3 convolution of a network that keeps the size a `Conv3x3`; names and parameters stay."""
    for layer in network.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.kernel_size == (3, 3)
        if plain and layer.stride == layer.padding == layer.dilation == (1, 1):
            layer.__class__ = Conv3x3


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x h x w -> B x C' x h x w."""
        return conv3x3(x, self.weight, self.bias)


def conv3x3(x: Tensor, kernels: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.conv2d` with padding 1; without gradients and on a processor by `winograd`, where that is faster."""
    direct = x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    small = min(kernels.shape[:2]) < CHANNELS or x.shape[2:].numel() < POSITIONS
    if direct or small or x.dtype != torch.float32:
        return F.conv2d(x, kernels, bias, padding=1)
    y = winograd(x, kernels)
    return y if bias is None else y + bias[:, None, None]


def winograd(x: Tensor, kernels: Tensor) -> Tensor:
    """B x C x h x w and C' x C x 3 x 3 -> B x C' x h x w, to 1e-5 of the largest output; zeros beyond the border."""
    outputs, (height, width) = len(kernels), x.shape[2:]
    rows, columns = -(-height // 4), -(-width // 4)  # of tiles of 4 x 4 outputs
    padded = F.pad(x, (1, 4 * columns - width + 1, 1, 4 * rows - height + 1))
    factors = (OF_KERNEL @ kernels.reshape(-1, 9).T).view(36, outputs, -1)
    y = x.new_empty(len(x), outputs, rows, 4, columns, 4)
    for image, out in zip(padded, y, strict=True):  # one after another: less memory, and no image sees another
        tiles = F.conv2d(image.unsqueeze(1), OF_TILE, stride=4).flatten(2).transpose(0, 1)  # 36 x C x tiles
        sums = OF_PRODUCTS @ (factors @ tiles).flatten(1)  # 16 x (C' tiles)
        out.copy_(sums.view(4, 4, outputs, rows, columns).permute(2, 3, 0, 4, 1))
    return y.view(len(x), outputs, 4 * rows, 4 * columns)[..., :height, :width].contiguous()
