"""PL: prototypes, un-pooled addition, metric softmax, fusion weights, permutation training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, VOID, EpisodeBatch, SupportBatch, build_episodes
from methods.pl import PL, PLConfig, log_fusion_weights, metric_softmax_loss, prototypes, squared_distances

SIDE = 64


def pl(**options: object) -> PL:
    torch.manual_seed(0)
    chosen = {"backbone": "efficientnet_lite0", "size": (SIDE, SIDE), "output_stride": 32} | options
    return PL(PLConfig.model_validate(chosen)).eval()


@pytest.fixture(scope="module")
def two_way() -> PL:
    return pl(ways=2)


@pytest.fixture(scope="module")
def shared() -> PL:
    return pl(shared_head=True)


def episodes(method: PL, ways: int = 2, shots: int = 1) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    support = torch.randn(2, ways, shots, 3, SIDE, SIDE, generator=generator)
    labels = (torch.rand(2, ways, shots, SIDE, SIDE, generator=generator) > 0.6).to(torch.uint8)
    truth = torch.randint(0, ways + 1, (2, SIDE, SIDE), generator=generator)
    with torch.no_grad():
        return build_episodes(method, query, support, labels, truth)


def test_distances_are_squared_and_euclidean() -> None:
    a, b = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])
    assert squared_distances(a, b).tolist() == [[[25.0], [8.0]]]


def test_metric_softmax_is_the_likelihood_of_the_own_class_over_those_present() -> None:
    distances = torch.tensor([[[1.0, 3.0, 2.0], [0.5, 0.0, 4.0], [9.0, 9.0, 9.0]]])
    first = -1 - np.log(np.exp(-1) + np.exp(-3) + np.exp(-2))
    second = -np.log(np.exp(-0.5) + 1 + np.exp(-4))
    found = metric_softmax_loss(distances, torch.tensor([[True, True, False]]))
    np.testing.assert_allclose(found, -(first + second) / 2, rtol=1e-6)
    assert metric_softmax_loss(distances, torch.zeros(1, 3, dtype=torch.bool)) == 0


def test_fusion_weights_are_a_softmax_times_the_number_of_classes() -> None:
    found = log_fusion_weights(torch.tensor([[0.0, 1.0, 2.0], [7.0, 7.0, 7.0]])).exp()
    shares = np.exp([0.0, -1.0, -2.0]) / np.exp([0.0, -1.0, -2.0]).sum()
    np.testing.assert_allclose(found, [3 * shares, [1.0, 1.0, 1.0]], rtol=1e-6)


def test_a_prototype_is_the_mean_over_shots_and_the_background_also_over_ways() -> None:
    support = {
        "foreground": torch.tensor([[[[1.0], [3.0]], [[10.0], [20.0]]]]),  # B x N x K x C
        "background": torch.tensor([[[[0.0], [4.0]], [[8.0], [12.0]]]]),
    }
    assert prototypes(support).tolist() == [[[6.0], [2.0], [15.0]]]


def test_unpooled_addition_adds_the_prototype_as_a_bias_at_every_position(two_way: PL) -> None:
    generator = torch.Generator().manual_seed(0)
    width = two_way.encoder.channels["c5"]
    query, found = torch.randn(1, width, 2, 3, generator=generator), torch.randn(1, 3, width, generator=generator)
    heads = torch.tensor([[0, 2, 1]])
    with torch.no_grad():
        scores = two_way.scores(query, found, heads)
    weight, bias = (p.detach().numpy() for p in two_way.heads.parameters())
    for place, head in enumerate([0, 2, 1]):
        summed = np.maximum(query[0].numpy() + found[0, place].numpy()[:, None, None], 0)
        expected = (weight[head] * summed).sum(0) + bias[head]
        np.testing.assert_allclose(scores[0, place], expected, atol=1e-4)


def test_the_learner_sees_the_object_alone_and_the_background_alone(two_way: PL) -> None:
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.full((1, SIDE, SIDE), BACKGROUND, dtype=torch.uint8)
    labels[:, :20], labels[:, 20:30], labels[:, 30:40] = OBJECT, OTHER_WAY, VOID

    def vectors(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return two_way.encode_support(SupportBatch({}, labels, lambda: images))

    before = vectors(pixels)
    ignored = vectors(torch.where((labels == OTHER_WAY) | (labels == VOID), -pixels, pixels))
    assert torch.equal(before["foreground"], ignored["foreground"])
    assert torch.equal(before["background"], ignored["background"])
    object_changed = vectors(torch.where(labels == OBJECT, -pixels, pixels))
    assert not torch.equal(before["foreground"], object_changed["foreground"])
    assert torch.equal(before["background"], object_changed["background"])


def test_copies_of_one_support_give_the_one_shot_result(two_way: PL) -> None:
    batch = episodes(two_way)
    copies = replace(batch, support={k: v.expand(-1, -1, 3, -1) for k, v in batch.support.items()}, size=(2, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(two_way.segment(copies), two_way.segment(batch))


def test_the_true_mask_on_a_supports_own_image_has_distance_zero_and_the_largest_weight(two_way: PL) -> None:
    batch = episodes(two_way, ways=1)
    labels = batch.support_labels[:, 0, 0]
    masks = torch.stack([labels == BACKGROUND, labels == OBJECT], dim=1).float()
    swapped = masks.roll(SIDE // 2, dims=3)  # a wrong map in place of the background's
    with torch.no_grad():
        seen = two_way.learn_each(batch.support_pixels[:, 0, 0], torch.stack([swapped[:, 0], masks[:, 1]], dim=1))
        distances = two_way.distances(seen, prototypes(batch.support)).diagonal(dim1=1, dim2=2)
    assert distances[:, 1].abs().max() < 1e-9 < distances[:, 0].min()
    weights = log_fusion_weights(distances).exp()
    assert (weights[:, 1] > weights[:, 0]).all()


def test_the_prediction_is_the_weighted_probability_map_renormalised(two_way: PL) -> None:
    batch = episodes(two_way)
    with torch.no_grad():
        maps = pl_without_fusion(two_way).segment(batch).softmax(1)
        found = two_way.segment(batch).softmax(1)
        seen = torch.stack([two_way.learn(batch.query_pixels, maps[:, n]) for n in range(3)], dim=1)
    distances = ((seen - prototypes(batch.support)) ** 2).mean(2).numpy()
    weights = np.exp(-distances) / np.exp(-distances).sum(1, keepdims=True)
    expected = weights[..., None, None] * maps.numpy()
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-3, atol=1e-6)


def pl_without_fusion(method: PL) -> PL:
    other = pl(ways=2, fusion=0.0)
    other.load_state_dict(method.state_dict())
    return other


def test_with_a_shared_head_the_ways_order_only_reorders_the_output(shared: PL) -> None:
    batch = episodes(shared)
    swapped = replace(batch, support={k: v.flip(1) for k, v in batch.support.items()})
    with torch.no_grad():
        torch.testing.assert_close(shared.segment(swapped), shared.segment(batch)[:, [0, 2, 1]])


def test_in_training_every_episode_deals_the_ways_to_heads_anew_and_background_keeps_its_own(two_way: PL) -> None:
    torch.manual_seed(0)
    try:
        dealt = two_way.train().deal(100, 2)
    finally:
        two_way.eval()
    assert {tuple(row) for row in dealt.tolist()} == {(0, 1, 2), (0, 2, 1)}
    assert two_way.deal(2, 2).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_ways_beyond_the_heads_use_them_in_turn(two_way: PL) -> None:
    assert two_way.deal(1, 5).tolist() == [[0, 1, 2, 1, 2, 1]]
    with torch.no_grad():
        assert two_way.segment(episodes(two_way, ways=3)).shape == (2, 4, SIDE, SIDE)


def test_the_loss_is_cross_entropy_of_the_query_plus_the_weighted_auxiliary_loss(two_way: PL) -> None:
    batch = episodes(two_way)
    assert batch.query_labels is not None
    batch.query_labels[:, :9] = 255
    heavier = pl(ways=2, classification_weight=3.0)
    heavier.load_state_dict(two_way.state_dict())
    with torch.no_grad():
        probability, auxiliary = two_way.segment(batch).softmax(1).numpy(), two_way.classification_loss(batch)
        losses = two_way.loss(batch), heavier.loss(batch)
    labels = batch.query_labels.numpy()
    own = np.take_along_axis(probability, np.minimum(labels, 2)[:, None], axis=1)[:, 0][labels != 255]
    np.testing.assert_allclose(losses[0], -np.log(own).mean() + auxiliary, rtol=1e-4)
    np.testing.assert_allclose(losses[1] - losses[0], 2 * auxiliary, rtol=1e-4)


def test_training_the_learner_lowers_its_auxiliary_loss() -> None:
    method = pl()
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    labels[:, 16:48, 16:48] = 1
    pixels = torch.where(labels == 1, pixels + 2, pixels)
    optimizer = torch.optim.SGD(method.learner.parameters(), lr=0.05)
    losses = []
    for _ in range(6):
        batch = build_episodes(method, pixels, pixels.flip(3)[None, None], labels[None, None], labels.long())
        losses.append(method.classification_loss(batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.01
