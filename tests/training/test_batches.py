"""What a method is trained on is what it is tested on: the same features, in the order that a recipe asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fssbench.conformance import small_subject
from fssbench.method import build_episodes
from fssbench.registry import find_method
from fssbench.training.batches import Episodes, encoded


@pytest.mark.parametrize("shot_by_shot", [False, True])
@pytest.mark.parametrize("name", ["panet", "pfenet"])  # maps as they are, and masked ones
def test_supports_come_in_the_order_of_episodes_ways_and_shots(
    name: str, shot_by_shot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = small_subject(find_method(name)).build()
    monkeypatch.setattr(type(method), "shot_by_shot", shot_by_shot)
    draw = torch.Generator().manual_seed(0)
    query, support = torch.randn(2, 3, 64, 96, generator=draw), torch.randn(2, 2, 3, 3, 64, 96, generator=draw)
    labels = (torch.rand(2, 2, 3, 64, 96, generator=draw) > 0.5).to(torch.uint8)
    batch = Episodes(query, torch.zeros(2, 64, 96, dtype=torch.long), support, labels)
    with torch.inference_mode():
        wanted = build_episodes(method, query, support, labels)
        maps = {name: value.unflatten(0, (2, 2, 3)) for name, value in method.encoder(support.flatten(0, 2)).items()}
        for given in (batch, replace(batch, support_maps=maps)):
            found = encoded(method, given)
            assert found.support.keys() == wanted.support.keys()
            for key, value in wanted.support.items():
                torch.testing.assert_close(found.support[key], value, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.support_labels, wanted.support_labels)
