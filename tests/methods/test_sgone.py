"""SG-One beyond its parity cases: fusion of shots, the padded exit, empty masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fssbench.method import Preprocess, build_episodes
from methods.sgone import SGOne, SGOneConfig

SIZE = (40, 56)


def build(**settings: object) -> SGOne:
    torch.manual_seed(0)
    return SGOne(SGOneConfig.model_validate({"backbone": "efficientnet_lite0", **settings})).eval()


@torch.no_grad()
def logits_of(method: SGOne, shots: list[int], labels: Tensor | None = None) -> Tensor:
    """One query with some of five supports."""
    draw = torch.Generator().manual_seed(1)
    query, support = torch.randn(1, 3, *SIZE, generator=draw), torch.randn(5, 3, *SIZE, generator=draw)
    if labels is None:
        labels = (torch.rand(5, *SIZE, generator=draw) > 0.5).byte()
    return method.segment(build_episodes(method, query, support[shots][None, None], labels[shots][None, None]))


def test_images_keep_their_size_unless_one_is_asked_for() -> None:
    assert build().query_input == Preprocess(None, "native", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert build(size=(64, 64)).query_input.fit == "squash"


def test_max_gives_each_shots_own_logits() -> None:
    method = build(fusion="max")
    together = logits_of(method, [0, 1, 2])
    assert together.shape[:3] == (1, 3, 2)
    for shot in range(3):
        torch.testing.assert_close(logits_of(method, [shot])[0, 0], together[0, shot], rtol=1e-4, atol=1e-4)


def test_max_decides_for_the_union_of_the_shots_masks() -> None:
    first = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.9]])  # background, object of three pixels
    second = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.9]])
    logits = torch.stack([first, second]).view(1, 2, 2, 1, 3)
    # A maximum of probabilities would give the third pixel the same; a mean would lose one of the first two.
    assert build(fusion="max").decide(logits).tolist() == [[[1, 1, 0]]]


def test_avg_of_one_shot_is_that_shot() -> None:
    average, union = build(fusion="avg"), build(fusion="max")
    torch.testing.assert_close(logits_of(average, [2]), logits_of(union, [2])[:, 0])


def test_avg_takes_the_mean_of_the_shots_vectors() -> None:
    method = build()
    labels = torch.ones(5, *SIZE, dtype=torch.uint8)
    labels[1] = 0  # an empty support gives a zero vector, which changes the mean's length and not its direction
    with pytest.warns(UserWarning, match="1 of 2 supports"):
        found = logits_of(method, [0, 1], labels)
    torch.testing.assert_close(found, logits_of(method, [0], labels), rtol=1e-4, atol=1e-4)


def test_logits_are_two_larger_than_the_features_with_a_border_of_the_exits_bias() -> None:
    method = build()
    with torch.no_grad():
        method.exit.bias.copy_(torch.tensor([3.0, -2.0]))
        feature = method.encode(torch.zeros(1, 3, *SIZE))["guidance"]
    logits = logits_of(method, [0])
    assert logits.shape[2:] == (feature.shape[2] + 2, feature.shape[3] + 2)
    border = torch.cat([logits[0, :, 0], logits[0, :, -1], logits[0, :, :, 0], logits[0, :, :, -1]], dim=1)
    assert border.unique(dim=1).tolist() == [[3.0], [-2.0]]
