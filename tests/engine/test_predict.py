"""`predict` as a library: what the caller does between two queries is its own affair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy_methods
from PIL import Image

from fssbench.engine.predict import predict
from fssbench.engine.supports import Support
from fssbench.method import Features, SupportBatch


def test_supports_are_encoded_once_and_the_caller_keeps_its_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    codes = np.zeros((40, 48), np.uint8)
    codes[10:30, 10:30] = 1
    queries = [tmp_path / f"{name}.png" for name in "abc"]
    for path in queries:
        Image.fromarray(pixels).save(path)
    pooled = []
    plain = toy_methods.Toy.encode_support

    def watched(self: toy_methods.Toy, support: SupportBatch) -> Features:
        pooled.append(len(support.labels))
        return plain(self, support)

    monkeypatch.setattr(toy_methods.Toy, "encode_support", watched)
    supports = [Support(name, Image.fromarray(pixels), codes) for name in ("one", "two")]
    method = toy_methods.Toy(toy_methods.ToyConfig()).eval()
    seen = []
    for path, _, mask in predict(method, supports, queries, torch.device("cpu")):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        seen.append((path, mask.shape))
    assert seen == [(path, (40, 48)) for path in queries]
    assert pooled == [2]
