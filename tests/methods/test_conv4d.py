"""Centre-pivot 4D convolutions, against a 4D convolution written out and against plain dot products."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.conv4d import CentrePivotConv4d, GroupNorm4d, Squeeze, correlation, correlation_bytes, resize_query


def conv4d_by_loops(
    x: NDArray[np.float64], kernel: NDArray[np.float64], bias: NDArray[np.float64], stride: int
) -> NDArray[np.float64]:
    """A full 4D convolution, C x ha x wa x hb x wb, zero padded by k // 2, `stride` along the last two axes."""
    half = kernel.shape[-1] // 2
    padded = np.pad(x, [(0, 0), *[(half, half)] * 4])
    ha, wa, hb, wb = x.shape[1:]
    out = np.zeros((len(kernel), ha, wa, -(-hb // stride), -(-wb // stride)))
    for a, b, c, d in itertools.product(range(kernel.shape[-1]), repeat=4):
        window = padded[:, a : a + ha, b : b + wa, c : c + hb : stride, d : d + wb : stride]
        out += np.einsum("oi,ixyzw->oxyzw", kernel[:, :, a, b, c, d], window)
    return out + bias[:, None, None, None, None]


LAYOUTS = [(0, 1, 2, 3, 4, 5), (0, 1, 4, 5, 2, 3), (0, 2, 3, 4, 5, 1)]  # as given, query last, channels last


def laid_out(x: Tensor, layout: tuple[int, ...]) -> Tensor:
    """The same values, in memory in another order of dimensions."""
    return x.permute(layout).contiguous().permute([layout.index(place) for place in range(6)])


def central_planes(conv: CentrePivotConv4d) -> NDArray[np.float64]:
    """The convolution's kernel as a full 4D one, 0 off the two planes through the centre."""
    over_query, over_support = (c.weight.detach().double().numpy() for c in (conv.conv1, conv.conv2))
    half = over_query.shape[-1] // 2
    kernel = np.zeros((*over_query.shape, *over_query.shape[2:]))
    kernel[:, :, :, :, half, half] += over_query
    kernel[:, :, half, half] += over_support
    return kernel


def unit_maps(count: int, size: tuple[int, int], seed: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 4 + level, *size, generator=generator) for level in range(count)]
    return [m / m.norm(dim=1, keepdim=True) for m in maps]


@pytest.mark.parametrize(
    ("kernel", "stride", "support"),
    [
        (3, 1, (3, 4)), (3, 1, (2, 1)), (3, 1, (5, 4)), (5, 1, (2, 3)), (5, 1, (6, 2)), (3, 2, (5, 4)), (3, 2, (10, 9)),
        (5, 4, (7, 6)), (5, 4, (17, 18)), (3, 2, (1, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_a_4d_convolution_of_the_two_central_planes(
    kernel: int, stride: int, support: tuple[int, int], layout: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    conv = CentrePivotConv4d(2, 3, kernel, stride).double()
    x = laid_out(torch.randn(2, 2, 4, 3, *support, dtype=torch.float64), layout)
    found = conv(x).detach().numpy()
    bias = (conv.conv1.bias + conv.conv2.bias).detach().numpy()  # type: ignore[operator]
    for b in range(2):
        expected = conv4d_by_loops(x[b].numpy(), central_planes(conv), bias, stride)
        np.testing.assert_allclose(found[b], expected, atol=1e-5)


def test_nothing_is_remembered_from_another_size() -> None:
    torch.manual_seed(0)
    conv = CentrePivotConv4d(1, 2, 3, 2)
    small, large = torch.randn(1, 1, 3, 3, 4, 4), torch.randn(1, 1, 4, 5, 7, 9)
    before = conv(small)
    assert conv(large).shape == (1, 2, 4, 5, 4, 5)
    assert torch.equal(conv(small), before)


def test_correlation_is_the_cosine_without_its_negative_part() -> None:
    query, support = unit_maps(3, (2, 3), 0), unit_maps(3, (3, 2), 1)
    mask = torch.tensor([[[1.0, 0], [1, 1], [0, 0]], [[0.0, 0], [0, 0], [0, 0.5]]]).unsqueeze(1)
    masked = [maps * mask for maps in support]
    found = correlation(query, masked)
    for level in range(3):
        cosines = np.einsum("bcyx,bczw->byxzw", query[level].numpy(), masked[level].numpy())
        np.testing.assert_allclose(found[:, level], np.maximum(cosines, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "rows", "columns"),
    [
        (5, 4, slice(0, 1), slice(5, 6)),
        (5, 4, slice(3, 6), slice(8, 11)),
        (3, 2, slice(7, 9), slice(0, 2)),
        (3, 1, slice(4, 5), slice(2, 3)),
        (3, 2, slice(0, 0), slice(0, 0)),
    ],
)
def test_what_the_object_does_not_reach_is_what_zeros_give(
    kernel: int, stride: int, rows: slice, columns: slice
) -> None:
    torch.manual_seed(0)
    conv, mask = CentrePivotConv4d(2, 3, kernel, stride), torch.zeros(9, 11)
    mask[rows, columns] = 1
    query, support = unit_maps(2, (4, 5), 0), [maps * mask for maps in unit_maps(2, (9, 11), 1)]
    torch.testing.assert_close(conv.of_correlation(query, support, 4), conv(correlation(query, support)))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_convolving_row_by_row_gives_the_same_values_and_gradients(rows: int) -> None:
    torch.manual_seed(0)
    conv = CentrePivotConv4d(2, 3, 5, 4)
    query, support = unit_maps(2, (7, 5), 0), unit_maps(2, (9, 6), 1)
    whole, parts = conv(correlation(query, support)), conv.of_correlation(query, support, rows)
    torch.testing.assert_close(parts, whole)
    for loss in (whole.square().sum(), parts.square().sum()):
        loss.backward()
    twice = [parameter.grad.clone() for parameter in conv.parameters() if parameter.grad is not None]
    conv.zero_grad()
    conv(correlation(query, support)).square().sum().backward()
    for parameter, both in zip(conv.parameters(), twice, strict=True):
        torch.testing.assert_close(both, 2 * parameter.grad, rtol=1e-4, atol=1e-3)  # type: ignore[operator]


def test_squeezing_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    over_support = CentrePivotConv4d.over_support

    def watched(self: CentrePivotConv4d, x: Tensor) -> Tensor:
        if x.shape[2] > 1:  # else it is told what zeros give
            seen.append(x.numel() * x.element_size())
        return over_support(self, x)

    monkeypatch.setattr(CentrePivotConv4d, "over_support", watched)
    query, support = unit_maps(3, (12, 10), 0), unit_maps(3, (12, 10), 1)
    budget = correlation_bytes(query, support) // 3
    Squeeze(3, (4,), (3,), (4,)).of_correlation(query, support, budget)
    assert len(seen) == 3
    assert max(seen) <= budget


@pytest.mark.parametrize("layout", LAYOUTS)
def test_resizing_the_query_leaves_channels_and_support_alone(layout: tuple[int, ...]) -> None:
    line, constants = torch.linspace(0, 1, 3), torch.arange(12.0).view(1, 2, 1, 1, 2, 3)
    x = laid_out(line.view(1, 1, 1, 3, 1, 1) + 10 * constants, layout)
    found = resize_query(x, (1, 5))
    expected = torch.linspace(0, 1, 5).view(1, 1, 1, 5, 1, 1) + 10 * constants
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 2])
def test_groups_are_normalised_over_all_pairs_of_positions(layout: tuple[int, ...], batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = GroupNorm4d(4, 8)
    torch.nn.init.normal_(norm.weight, generator=generator)
    torch.nn.init.normal_(norm.bias, generator=generator)
    x = 3 + torch.randn(batch, 8, 3, 4, 2, 5, generator=generator)
    groups = x.double().reshape(batch, 4, -1)
    mean, deviation = groups.mean(2, keepdim=True), groups.var(2, correction=0, keepdim=True).add(1e-5).sqrt()
    scale, shift = (parameter.view(8, 1, 1, 1, 1) for parameter in (norm.weight, norm.bias))
    expected = ((groups - mean) / deviation).view_as(x) * scale + shift
    found = norm(laid_out(x, layout))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert found.permute(LAYOUTS[2] if layout == LAYOUTS[2] else LAYOUTS[1]).is_contiguous()
