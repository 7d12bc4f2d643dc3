"""CANet beyond its parity cases: K shots, refinement, training modes, checkpoints."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, SupportBatch, build_episodes
from methods.canet import CANet, CANetConfig

SIDE = 33


def canet(**options: object) -> CANet:
    torch.manual_seed(0)
    return CANet(CANetConfig.model_validate(options)).eval()


def episodes(method: CANet, shots: int, *, same: bool = False, order: slice = slice(None)) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    support = torch.randn(2, 1, shots, 3, SIDE, SIDE, generator=generator)
    labels = (torch.rand(2, 1, shots, SIDE, SIDE, generator=generator) > 0.6).to(torch.uint8)
    if same:
        support, labels = support[:, :, :1].expand_as(support), labels[:, :, :1].expand_as(labels)
    truth = torch.randint(0, 2, (2, SIDE, SIDE), generator=generator)
    return build_episodes(method, query, support[:, :, order], labels[:, :, order], truth)


def logits(method: CANet, batch: EpisodeBatch) -> Tensor:
    with torch.no_grad():
        return method.segment(batch)


def pooled(features: Tensor, labels: Tensor) -> Tensor:
    batch = SupportBatch({"feature": features}, labels, lambda: torch.empty(0))
    return CANet.encode_support(canet_1shot(), batch)["prototype"]


def canet_1shot() -> CANet:
    return canet(backbone="efficientnet_lite0")


def test_prototype_is_the_masked_sum_over_area_plus_the_authors_constant() -> None:
    features = torch.arange(2 * 256 * 4, dtype=torch.float32).reshape(2, 256, 2, 2)
    labels = torch.tensor([[[1, 0], [0, 1]], [[0, 0], [0, 0]]], dtype=torch.uint8)
    expected = np.stack([(features[0, :, 0, 0] + features[0, :, 1, 1]).numpy() / 2.0005, np.zeros(256)])
    np.testing.assert_allclose(pooled(features, labels).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("refinements", [0, 1, 4])
def test_the_trunk_runs_once_and_once_more_for_every_refinement(refinements: int) -> None:
    method = canet(backbone="efficientnet_lite0", refinements=refinements)
    histories: list[Tensor] = []
    method.trunk.register_forward_hook(lambda _module, inputs, _output: histories.append(inputs[1]))
    logits(method, episodes(method, 1))
    assert len(histories) == 1 + refinements
    assert not histories[0].any()
    for history in histories[1:]:
        torch.testing.assert_close(history.sum(1), torch.ones_like(history[:, 0]))


@pytest.mark.parametrize("fusion", ["mean", "attention"])
def test_one_support_repeated_gives_what_it_gives_alone(fusion: str) -> None:
    method = canet(backbone="efficientnet_lite0", fusion=fusion)
    thrice = logits(method, episodes(method, 3, same=True))
    once = logits(method, episodes(method, 3, same=True, order=slice(0, 1)))
    torch.testing.assert_close(thrice, once, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fusion", ["mean", "attention", "confidence"])
def test_the_order_of_supports_does_not_matter(fusion: str) -> None:
    method = canet(backbone="efficientnet_lite0", fusion=fusion)
    batch = episodes(method, 3)
    turned = {name: value.flip(2) for name, value in batch.support.items()}
    flipped = EpisodeBatch(batch.query, turned, batch.size, batch.query_shape, batch.load_support_labels)
    torch.testing.assert_close(logits(method, batch), logits(method, flipped), atol=1e-5, rtol=1e-4)


def test_mask_or_marks_what_any_shot_marks_and_keeps_every_shots_own_logits() -> None:
    method = canet(backbone="efficientnet_lite0", fusion="or")
    alone = canet(backbone="efficientnet_lite0")
    alone.load_state_dict(method.state_dict())
    both = logits(method, episodes(method, 2))
    assert both.shape[:3] == (2, 2, 2)
    for shot in range(2):
        single = logits(alone, episodes(alone, 2, order=slice(shot, shot + 1)))
        torch.testing.assert_close(both[:, shot], single, atol=1e-5, rtol=1e-4)
    votes = torch.tensor([[[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 2.0]]], [[[1.0, 0.0, 0.0]], [[0.0, 3.0, 1.0]]]]])
    assert method.decide(votes).tolist() == [[[0, 1, 1]]]


def test_confidence_is_the_mean_of_the_shots_probabilities() -> None:
    method, every = (
        canet(backbone="efficientnet_lite0", fusion="confidence"),
        canet(backbone="efficientnet_lite0", fusion="or"),
    )
    every.load_state_dict(method.state_dict())
    apart = logits(every, episodes(every, 3)).softmax(2)
    torch.testing.assert_close(logits(method, episodes(method, 3)), (apart[:, 0] + apart[:, 1] + apart[:, 2]) / 3)


def test_attention_learns_from_several_shots() -> None:
    method = canet(backbone="efficientnet_lite0", fusion="attention").train()
    method.loss(episodes(method, 3)).backward()
    assert method.attention is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.attention.parameters())


@pytest.mark.parametrize(("batchnorm", "moves"), [("batch", True), ("running", False)])
def test_the_frozen_encoder_updates_its_statistics_in_training_only_if_asked(batchnorm: str, moves: bool) -> None:
    method = canet(batchnorm=batchnorm).train()
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    method.loss(episodes(method, 1)).backward()
    changed = {name for name, value in method.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert bool(changed) == moves
    assert all("running" in name or "num_batches" in name for name in changed)
    assert all(p.grad is None for p in method.encoder.parameters())


@pytest.mark.parametrize(("probability", "passes"), [(0.0, 1), (1.0, 2)])
def test_training_sees_a_history_as_often_as_configured(probability: float, passes: int) -> None:
    method = canet(backbone="efficientnet_lite0", history_probability=probability)
    seen: list[Tensor] = []
    method.trunk.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[1]))
    method.loss(episodes(method, 1)).backward()
    assert len(seen) == passes
    assert bool(seen[-1].any()) == (probability == 1.0)
    assert not seen[-1].requires_grad


def test_an_authors_checkpoint_is_refused_where_attention_would_stay_random() -> None:
    with pytest.raises(CheckpointError, match="no attention weights"):
        canet(backbone="efficientnet_lite0", fusion="attention").load_official({})


@pytest.mark.parametrize("levels", ["lower", "upper"])
def test_a_single_feature_level_can_be_used(levels: str) -> None:
    method = canet(backbone="efficientnet_lite0", levels=levels)
    channels = method.encoder.channels[{"lower": "c3", "upper": "c4"}[levels]]
    assert method.reduce[0].in_channels == channels
    assert torch.isfinite(logits(method, episodes(method, 1))).all()
