"""PMMs and RPMMs beyond their parity cases: EM, K shots, initial means, checkpoints."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fssbench.errors import CheckpointError, MethodError
from fssbench.method import EpisodeBatch, build_episodes
from fssbench.settings import parse_settings
from methods.pmms import PMMs, PMMsConfig, RPMMs, RPMMsConfig, expectation_maximisation, fit_mixtures, initial_means

LITE = "efficientnet_lite0"
SIDE = 33


def pmms(**options: object) -> PMMs:
    torch.manual_seed(0)
    return PMMs(PMMsConfig.model_validate({"backbone": LITE, **options})).eval()


def rpmms(**options: object) -> RPMMs:
    torch.manual_seed(0)
    return RPMMs(RPMMsConfig.model_validate({"backbone": LITE, **options})).eval()


def episodes(method: PMMs | RPMMs, shots: int, *, first: int | None = None, same: bool = False) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    support = torch.randn(2, 1, shots, 3, SIDE, SIDE, generator=generator)
    labels = (torch.rand(2, 1, shots, SIDE, SIDE, generator=generator) > 0.6).to(torch.uint8)
    if same:
        support, labels = support[:, :, :1].expand_as(support), labels[:, :, :1].expand_as(labels)
    truth = torch.randint(0, 2, (2, SIDE, SIDE), generator=generator)
    return build_episodes(method, query, support[:, :, :first], labels[:, :, :first], truth)


def logits(method: PMMs | RPMMs, batch: EpisodeBatch) -> Tensor:
    with torch.no_grad():
        return method.segment(batch)


def plain_em(x: np.ndarray, mu: np.ndarray, kappa: float, rounds: int) -> np.ndarray:
    """EM as the method's description states it, one vector at a time. x: n x C, mu: K x C."""
    for _ in range(rounds):
        z = np.zeros((len(x), len(mu)))
        for i, vector in enumerate(x):
            scores = kappa * mu @ vector
            z[i] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        z /= 1e-6 + z.sum(0)
        mu = z.T @ x
        mu = mu / (1e-6 + np.sqrt((mu**2).sum(1, keepdims=True)))
    return mu


def test_em_agrees_with_a_plain_float64_computation() -> None:
    generator = np.random.default_rng(0)
    vectors, means = generator.normal(0, 0.3, (2, 40, 8)), generator.normal(0, 1, (3, 8))
    masks = generator.uniform(0, 1, (2, 2, 40))
    found = expectation_maximisation(
        torch.tensor(vectors).mT, torch.tensor(masks), [torch.tensor(means.T)[None]], 20.0, 10
    )[0]
    for item in range(2):
        for side in range(2):
            masked = vectors[item] * masks[item, side][:, None]
            np.testing.assert_allclose(found[item, side].T.numpy(), plain_em(masked, means, 20.0, 10), atol=1e-9)


def test_a_component_that_no_vector_chooses_dies_and_stays_dead() -> None:
    vectors = torch.zeros(1, 256, 50)
    vectors[:, 0] = 100.0
    means = torch.zeros(1, 256, 2)
    means[0, 0, 0], means[0, 0, 1] = 1.0, -1.0
    found = expectation_maximisation(vectors, torch.ones(1, 1, 50), [means], 20.0, 10)[0][0, 0]
    assert found[0, 0].item() == pytest.approx(1.0, abs=1e-6)
    assert not found[:, 1].any()


def test_the_mixture_carries_no_gradient() -> None:
    query = torch.randn(1, 256, 3, 3, requires_grad=True)
    support = torch.randn(1, 1, 256, 3, 3, requires_grad=True)
    (mixture,) = fit_mixtures(query, support, torch.ones(1, 1, 1, 3, 3), [initial_means(3, 0)], 20.0, 10)
    assert not any(part.requires_grad for part in mixture)
    torch.testing.assert_close(mixture.probability.sum(1), torch.ones(1, 3, 3))


def test_initial_means_repeat_with_their_seed_and_have_unit_length() -> None:
    assert torch.equal(initial_means(6, 3), initial_means(6, 3))
    assert not torch.equal(initial_means(6, 3), initial_means(6, 4))
    torch.testing.assert_close(initial_means(6, 3).norm(dim=1), torch.ones(1, 6))
    assert torch.equal(rpmms(em_seed=3).get_buffer("means_6"), initial_means(6, 3))


def test_a_checkpoint_of_ours_keeps_its_initial_means() -> None:
    trained, other = pmms(em_seed=5), pmms(em_seed=6)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.get_buffer("means_3"), initial_means(3, 5))


@pytest.mark.parametrize("make", [pmms, rpmms])
def test_one_support_repeated_leads_to_the_same_prototypes(make: type) -> None:
    method = make()
    with torch.no_grad():
        thrice = method.mixtures(episodes(method, 3, same=True))
        once = method.mixtures(episodes(method, 3, same=True, first=1))
    for found, expected in zip(thrice, once, strict=True):
        torch.testing.assert_close(found.foreground, expected.foreground, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.background, expected.background, atol=1e-4, rtol=1e-3)


def test_rpmms_reads_one_shot_from_the_last_stage_and_several_from_the_sum_over_five() -> None:
    method = rpmms()
    several = logits(method, episodes(method, 2))
    torch.testing.assert_close(several.sum(1), torch.full_like(several[:, 0], 3 / 5))  # three maps of sum 1, over 5
    batch = episodes(method, 1)
    with torch.no_grad():
        last = method.chain(batch)[-1].logits
    assert torch.equal(logits(method, batch), last)


def test_each_stage_of_rpmms_is_guided_by_the_mask_of_the_one_before() -> None:
    method = rpmms()
    guides: list[Tensor] = []
    method.trunk.register_forward_hook(lambda _module, inputs, _output: guides.append(inputs[1]))
    with torch.no_grad():
        stages = method.chain(episodes(method, 1))
    assert not guides[0].any()
    assert torch.equal(guides[1], stages[0].logits.softmax(1))
    assert torch.equal(guides[2], stages[1].logits.softmax(1))
    assert [stage.mixture.foreground.shape[2] for stage in stages] == [1, 3, 6]


@pytest.mark.parametrize("make", [pmms, rpmms])
def test_void_pixels_do_not_change_the_loss(make: type) -> None:
    method = make(dropout=0.0)
    batch = episodes(method, 1)
    assert batch.query_labels is not None
    with torch.no_grad():
        whole = method.loss(batch)
        batch.query_labels[0] = 255  # all that is left is the second episode
        half = method.loss(batch)
        batch.query_labels[0] = torch.randint(0, 2, (SIDE, SIDE))
        batch.query_labels[1] = 255
    assert torch.isfinite(half)
    assert half != whole


def test_encoder_is_trained_except_for_batchnorm_scales() -> None:
    method = PMMs(PMMsConfig(backbone="resnet50")).train()
    method.loss(episodes(method, 1)).backward()
    without = {name for name, p in method.named_parameters() if p.grad is None}
    assert without == {
        name
        for name, _ in method.named_parameters()
        if name.startswith("encoder") and ("bn" in name or "sample.1" in name)
    }


def test_checkpoints_of_pmms_and_rpmms_are_not_mistaken_for_each_other() -> None:
    with pytest.raises(CheckpointError, match=r"missing: .*not known: .*compare\.norm"):
        rpmms().load_official({f"layer55.1.{leaf}": torch.zeros(256) for leaf in ("weight", "bias")})


def test_stages_without_components_are_refused() -> None:
    with pytest.raises(MethodError, match="components"):
        parse_settings(RPMMsConfig, ["components="])
    with pytest.raises(MethodError, match="components"):
        parse_settings(RPMMsConfig, ["components=1,0"])
