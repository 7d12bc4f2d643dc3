"""HDMNet beyond its parity cases: matching by loops, masked images, distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fssbench.method import SupportBatch
from methods.hdmnet import HDMNet, HDMNetConfig, distillations, distilled
from methods.hdmnet_transformer import Matching

SIZE = (49, 65)


def hdmnet(**options: object) -> HDMNet:
    torch.manual_seed(0)
    return HDMNet(HDMNetConfig.model_validate({"backbone": "efficientnet_lite0", "size": SIZE, **options})).eval()


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one support position at a time", "all at once"])
def test_each_support_position_inside_the_mask_hands_its_value_out_over_the_query(budget: int) -> None:
    torch.manual_seed(0)
    layer = Matching().double()
    query, support = torch.randn(2, 5, 64).double(), torch.randn(2, 7, 64).double()
    inside = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0]]).bool()
    with torch.no_grad():
        out, correlation = layer(query, support, inside, budget)
        q, k, v = (
            getattr(layer.attn, f"linear_{n}")(x).numpy() for n, x in (("q", query), ("k", support), ("v", support))
        )
        last = layer.attn.linear_o.weight.numpy()
    for b in range(2):
        chosen = np.flatnonzero(inside[b])
        values, mean = np.zeros((5, 64)), np.zeros(5)
        for head in (slice(0, 32), slice(32, 64)):
            for j in chosen:
                scores = np.array([q[b, i, head] @ k[b, j, head] for i in range(5)]) / 0.1
                scores /= np.linalg.norm(q[b][:, head], axis=1) * np.linalg.norm(k[b, j, head])
                weights = np.exp(scores) / np.exp(scores).sum()  # over the query
                values[:, head] += weights[:, None] * v[b, j, head]
                mean += scores / len(chosen) / 2
        np.testing.assert_allclose(out[b], values @ last.T, atol=1e-9)
        np.testing.assert_allclose(correlation[b], mean, atol=1e-6)


def test_what_lies_outside_the_supports_mask_is_never_seen() -> None:
    method, labels = hdmnet(), torch.zeros(1, *SIZE, dtype=torch.uint8)
    labels[:, 8:40, 10:30] = 1
    labels[:, :, 30:40] = 255
    images = torch.randn(1, 3, *SIZE)
    changed = torch.where(labels[:, None] == 1, images, torch.randn(1, 3, *SIZE))
    with torch.no_grad():
        one, two = (method.encode_support(SupportBatch({}, labels, lambda x=x: x)) for x in (images, changed))  # type: ignore[misc]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_teacher_that_agrees_costs_nothing_and_learns_nothing() -> None:
    student = torch.randn(2, 3, 4, requires_grad=True)
    assert distilled(student.detach() + 5, student).abs() < 1e-6  # a constant leaves the softmax alone
    teacher = torch.randn(2, 3, 4)
    likely, own = teacher.flatten(1).softmax(1).numpy(), student.detach().flatten(1).softmax(1).numpy()
    wanted = (likely * np.log(likely / own)).sum(1).mean()
    np.testing.assert_allclose(distilled(teacher, student).item(), wanted, rtol=1e-5)


def test_coarse_maps_teach_finer_ones_and_void_counts_as_background() -> None:
    maps = [torch.randn(1, size, size, requires_grad=True) for size in (8, 4, 2)]
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[:, :8, :8] = 1
    labels[:, 8:] = 255
    terms = distillations(labels, list(maps))
    likely = maps[2].detach().flatten().softmax(0)
    torch.testing.assert_close(terms[0], -likely[0].log())  # all of the label's mass lies in the first cell
    (grad,) = torch.autograd.grad(terms[1], maps[1], retain_graph=True)
    assert grad.abs().sum() > 0
    assert torch.autograd.grad(terms[1], maps[2], allow_unused=True)[0] is None  # the teacher gets no gradient
