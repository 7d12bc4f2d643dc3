"""In float16 no sum of a head overflows: with activations as large as networks have, logits are finite and near."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fssbench.conformance import small_subject
from fssbench.method import Features
from fssbench.registry import BUILT_IN, find_method
from fssbench.scenes import render

LARGEST = 60.0  # in any map of an encoder


def _enlarged(_: Any, __: Any, features: Features) -> Features:
    return {name: value * (LARGEST / value.abs().amax()) for name, value in features.items()}


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(n for n in BUILT_IN if find_method(n).info.trainable))
def test_large_activations_overflow_in_no_head(name: str) -> None:
    method = small_subject(find_method(name)).build()
    method.encoder.register_forward_hook(_enlarged)
    pixels = render(method, 1, 1, 2)
    full = method.segment(pixels.built(method))
    with torch.autocast("cpu", torch.float16):
        half: Tensor = method.segment(pixels.built(method)).float()
    assert torch.isfinite(half).all()
    assert (half - full).abs().max() < 0.02 * full.abs().max()  # found: 0.006 at most
