"""FSS-1000 beyond its parity cases: statistics of groups, sums over shots, other backbones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fssbench.method import EpisodeBatch, build_episodes
from methods.fss1000 import FSS1000, FSS1000Config, GroupedBatchNorm, set_group

SIZE = (64, 96)


def build(**settings: object) -> FSS1000:
    torch.manual_seed(0)
    config = {"backbone": "efficientnet_lite0", "size": SIZE, **settings}
    return FSS1000(FSS1000Config.model_validate(config)).eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm(group: int | None) -> GroupedBatchNorm:
    layer = GroupedBatchNorm(3, momentum=0.25)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer.bias.copy_(torch.tensor([0.0, 0.5, -1.0]))
    set_group(layer, group)
    return layer


def reference(x: Tensor) -> tuple[Tensor, nn.BatchNorm2d]:
    """PyTorch's own BatchNorm on one group, in training mode."""
    layer = nn.BatchNorm2d(3, momentum=0.25)
    layer.load_state_dict(norm(None).state_dict())
    return layer(x), layer


@pytest.mark.parametrize("training", [True, False])
def test_each_group_is_normalised_by_its_own_statistics(training: bool) -> None:
    x = random(6, 3, 4, 5) * torch.arange(1.0, 7).view(6, 1, 1, 1)
    found = norm(2).train(training)(x)
    for start in (0, 2, 4):
        torch.testing.assert_close(found[start : start + 2], reference(x[start : start + 2])[0])


def test_running_statistics_follow_the_mean_over_groups_in_training_only() -> None:
    x = random(4, 3, 4, 5)
    layer = norm(2)
    before = layer.running_mean.clone()
    layer.eval()(x)
    assert torch.equal(layer.running_mean, before)
    layer.train()(x)
    groups = [reference(part)[1] for part in (x[:2], x[2:])]
    torch.testing.assert_close(layer.running_mean, (groups[0].running_mean + groups[1].running_mean) / 2)
    torch.testing.assert_close(layer.running_var, (groups[0].running_var + groups[1].running_var) / 2)
    assert int(layer.num_batches_tracked) == 1


def test_without_group_the_running_statistics_hold() -> None:
    layer = norm(None)
    other = nn.BatchNorm2d(3).eval()
    other.load_state_dict(layer.state_dict())
    x = random(2, 3, 4, 5)
    torch.testing.assert_close(layer(x), other(x))


def episodes(method: FSS1000, shots: list[int]) -> EpisodeBatch:
    support, labels = random(3, 3, *SIZE, seed=1), torch.zeros(3, *SIZE, dtype=torch.uint8)
    labels[:, 10:40, 20:60] = 1
    return build_episodes(method, random(1, 3, *SIZE, seed=2), support[shots][None, None], labels[shots][None, None])


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
@torch.no_grad()
def test_supports_are_summed_and_not_averaged(batch_norm: str) -> None:
    method = build(batch_norm=batch_norm)
    one = method.comparison(episodes(method, [0]))
    three = method.comparison(episodes(method, [0, 0, 0]))  # copies have the statistics of one
    deep = one.shape[1] // 2
    torch.testing.assert_close(three[:, :deep], 3 * one[:, :deep], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(three[:, deep:], one[:, deep:])


@pytest.mark.parametrize(("batch_norm", "depends"), [("batch", True), ("running", False)])
@torch.no_grad()
def test_supports_are_normalised_among_themselves_only_by_batch_statistics(batch_norm: str, depends: bool) -> None:
    method = build(batch_norm=batch_norm)
    apart = sum(method.comparison(episodes(method, [shot])) for shot in (0, 1))
    together = method.comparison(episodes(method, [0, 1]))
    assert isinstance(apart, Tensor)
    deep = together.shape[1] // 2
    assert torch.allclose(apart[:, :deep], together[:, :deep], rtol=1e-3, atol=1e-3) is not depends


@torch.no_grad()
def test_the_mask_reaches_the_encoder_as_a_fourth_channel() -> None:
    method = build()
    labels = torch.ones(1, 1, 1, *SIZE, dtype=torch.uint8)
    image = random(1, 3, *SIZE)
    with pytest.warns(UserWarning, match="1 of 1 supports"):  # label 2 belongs to another way
        batches = [build_episodes(method, image, image[None, None], value) for value in (labels, labels * 2)]
    first, second = (method.comparison(batch) for batch in batches)
    deep = first.shape[1] // 2
    assert not torch.allclose(first[:, :deep], second[:, :deep])
    torch.testing.assert_close(first[:, deep:], second[:, deep:])
    # A support without mask is encoded as a query is.
    torch.testing.assert_close(second[:, :deep], second[:, deep:])


@torch.no_grad()
def test_the_background_logit_is_zero_so_that_softmax_is_the_papers_sigmoid() -> None:
    method = build()
    logits = method.segment(episodes(method, [0]))
    assert not logits[:, 0].any()
    torch.testing.assert_close(logits.softmax(1)[:, 1], logits[:, 1].sigmoid())


def test_imagenet_weights_leave_the_first_convolution_as_it_was() -> None:
    method, donor = build(), build(batch_norm="running")
    with torch.no_grad():
        for parameter in donor.parameters():
            parameter.fill_(0.25)
    plain = dict(donor.encoder.body.state_dict())
    first = f"{method.encoder.first}.weight"
    plain[first] = plain[first][:, :3]  # as published: three channels
    method.encoder._imagenet = lambda: plain
    before = method.encoder.body.state_dict()[first].clone()
    method.encoder.load_imagenet()
    after = method.encoder.body.state_dict()
    assert torch.equal(after[first], before)
    assert all(bool((value == 0.25).all()) for name, value in after.items() if "weight" in name and name != first)
