"""DCAMA beyond its parity cases: attention by loops, position codes, chunks, shots, shapes, checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, build_episodes
from methods.dcama import DCAMA, Attention, DCAMAConfig, position_code


def dcama(backbone: str = "efficientnet_lite0") -> DCAMA:
    torch.manual_seed(0)
    return DCAMA(DCAMAConfig(backbone=backbone, size=(64, 96))).eval()


def episodes(method: DCAMA, order: tuple[int, ...] = (0,)) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query, support = (torch.randn(*shape, 3, 64, 96, generator=generator) for shape in ((2,), (2, 1, 3)))
    labels = (torch.rand(2, 1, 3, 64, 96, generator=generator) > 0.6).to(torch.uint8)
    return build_episodes(method, query, support[:, :, order], labels[:, :, order])


def test_a_position_is_coded_by_sines_and_cosines_of_its_number() -> None:
    found = position_code(50, 8, torch.device("cpu"))
    for p in (0, 1, 49):
        rates = [p * 10000 ** (-2 * j / 8) for j in range(4)]
        wanted = [value for rate in rates for value in (np.sin(rate), np.cos(rate))]
        np.testing.assert_allclose(found[p], wanted, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one query position at a time", "all at once"])
def test_a_query_position_gets_the_mask_of_what_it_resembles_in_any_shot(budget: int) -> None:
    torch.manual_seed(0)
    attention = Attention(16).double().eval()
    query, keys = torch.randn(2, 16, 2, 3).double(), torch.randn(2, 2, 16, 2, 2).double()
    masks = torch.rand(2, 2, 2, 2).double()
    found = attention(query, keys, masks, budget)
    for b, y, x in np.ndindex(2, 2, 3):
        total = 0.0
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            places = list(np.ndindex(2, 2, 2))  # shot, row, column
            scores = [float(query[b, part, y, x] @ keys[b, k, part, i, j]) / np.sqrt(2) for k, i, j in places]
            weights = np.exp(scores) / np.exp(scores).sum()
            total += sum(w * float(masks[b][place]) for w, place in zip(weights, places, strict=True)) / 8
        assert found[b, y, x].item() == pytest.approx(total)


def test_the_order_of_the_shots_does_not_matter() -> None:
    method = dcama()
    with torch.no_grad():
        one, two = (method.segment(episodes(method, order)) for order in ((0, 1, 2), (2, 0, 1)))
    assert one.shape == (2, 2, 64, 96)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_the_backbone_is_frozen_and_the_rest_trained() -> None:
    method = dcama("resnet50").train()
    assert not method.encoder.training
    frozen = {name for name, p in method.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in method.named_parameters() if name.startswith("encoder.")}
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert trained == pytest.approx(14.2e6, rel=0.01)  # as the authors' network


def test_a_checkpoint_that_lacks_a_block_is_refused_and_constant_tables_play_no_part() -> None:
    table = {"model.pe.0.pe": torch.zeros(1), "feature_extractor.fc.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"missing: attention\.16x1024\.linears") as caught:
        dcama("resnet50").load_official(table)
    assert "not known" not in str(caught.value)


class _Scores(TorchDispatchMode):
    """Bytes of every piece of memory that scores of 16 queries and 720 keys lay in; none is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: dict[int, int] = {}
        self._held: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.shape[-2:] == (16, 720):
            self._held.append(made)
            self.pieces[made.untyped_storage().data_ptr()] = made.untyped_storage().nbytes()
        return made


def test_scores_take_their_memory_once_and_no_more_than_given() -> None:
    torch.manual_seed(0)
    attention, budget = Attention(32).eval(), 2 * 16 * 8 * 720 * 4  # products and weights of 16 queries: 9 parts
    inputs = torch.randn(1, 32, 12, 12), torch.randn(1, 5, 32, 12, 12), torch.rand(1, 5, 12, 12)
    with torch.inference_mode(), _Scores() as scores:
        found = attention(*inputs, budget)
    assert 0 < sum(scores.pieces.values()) <= budget
    torch.testing.assert_close(found, attention(*inputs, 1 << 30), atol=1e-6, rtol=1e-5)  # with gradients, at once
