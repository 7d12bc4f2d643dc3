"""FSIL: iterative fusion by hand, the distilled average, the two losses, and PANet as its limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fssbench.errors import CheckpointError
from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID, EpisodeBatch, build_episodes
from methods.blocks import pool_prototypes
from methods.fsil import FSIL, FSILConfig, distilled_average, support_targets
from methods.panet import PANet, PANetConfig

SIDE = 64


def fsil(**options: object) -> FSIL:
    torch.manual_seed(0)
    return FSIL(FSILConfig.model_validate({"backbone": "efficientnet_lite0", "size": (SIDE, SIDE)} | options)).eval()


@pytest.fixture(scope="module")
def real() -> EpisodeBatch:
    """Two 2-way 2-shot episodes with 3 auxiliary images a way, from random pixels."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    support = torch.randn(2, 2, 2, 3, SIDE, SIDE, generator=generator)
    auxiliary = torch.randn(2, 2, 3, 3, SIDE, SIDE, generator=generator)
    labels = (torch.rand(2, 2, 2, SIDE, SIDE, generator=generator) > 0.6).to(torch.uint8)
    truth = torch.randint(0, 3, (2, SIDE, SIDE), generator=generator)
    with torch.no_grad():
        return build_episodes(fsil(), query, support, labels, truth, auxiliary)


def unit(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def drawn(auxiliary: list[list[float]] | None, way: float = 0, background: float = 90) -> EpisodeBatch:
    """A 1-way 1-shot episode of 2-vectors, by their angles; `auxiliary` holds images of pixels."""
    maps = None if auxiliary is None else torch.tensor([[unit(a) for a in image] for image in auxiliary])
    return EpisodeBatch(
        query={"feature": torch.tensor([unit(0), unit(45), unit(90)]).T[None, :, None]},
        support={"prototypes": torch.tensor([unit(way), unit(background)])[None, None, None]},
        size=(1, 1, 1),
        query_shape=(1, 3),
        load_support_labels=lambda: torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8),
        auxiliary=None if maps is None else {"feature": maps.transpose(1, 2)[None, None, :, :, None]},
    )


def test_one_round_of_fusion_by_hand() -> None:
    method = fsil(iterations=1, tau=1 - np.cos(np.radians(50)), scale=20.0)
    pixels = np.array([unit(10), unit(40), unit(60)])  # the last one is too far
    probability = 1 / (1 + np.exp(20 * (pixels[:, 1] - pixels[:, 0])))  # object at 0 degrees, background at 90
    kept = probability * [1, 1, 0]
    expected = np.array(unit(0)) + (kept[:, None] * pixels).sum(0) / (kept.sum() + 1e-5)
    found = method.prototypes(drawn([[10, 60], [40, 60]]))[0]
    np.testing.assert_allclose(found, [unit(90), expected], atol=1e-5)


def test_the_second_round_looks_with_the_first_rounds_prototype() -> None:
    pixels, weights = np.array([unit(30), unit(-20)]), np.zeros(2)
    original = current = np.array(unit(0))
    for _ in range(2):
        cosines = pixels @ current / np.linalg.norm(current)
        weights = (1 + cosines) / 2
        current = original + weights @ pixels / (weights.sum() + 1e-5)
    method = fsil(iterations=2, tau=2.0, soft_mask="cosine")
    np.testing.assert_allclose(method.prototypes(drawn([[30, -20]]))[0, 1], current, atol=1e-5)


def test_fusing_with_the_previous_prototype_adds_up() -> None:
    same = drawn([[0, 0]])  # every pixel is the prototype itself, so each round adds it once more
    assert method_norm(fsil(iterations=3, fuse_with="previous"), same) == pytest.approx(4, abs=1e-3)
    assert method_norm(fsil(iterations=3, fuse_with="original"), same) == pytest.approx(2, abs=1e-3)


def method_norm(method: FSIL, batch: EpisodeBatch) -> float:
    return float(method.prototypes(batch)[0, 1].norm())


def test_a_distilled_average_leaves_out_far_positions_and_is_zero_without_any() -> None:
    features = torch.tensor([[[[1.0, 2.0, 9.0]], [[0.0, 4.0, 9.0]]]])  # 1 x 2 x 1 x 3
    mask, cosines = torch.tensor([[[1.0, 0.5, 1.0]]]), torch.tensor([[[0.9, 0.5, 0.4]]])
    found = distilled_average(features, mask, cosines, tau=0.5)
    np.testing.assert_allclose(found, [[2 / 1.5, 2 / 1.5]], rtol=1e-4)
    assert distilled_average(features, mask, cosines, tau=0.05).tolist() == [[0.0, 0.0]]


def test_copies_of_the_support_under_its_true_mask_leave_the_prototypes_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 8, 5, 6, generator=generator)
    mask = (torch.rand(1, 5, 6, generator=generator) > 0.5).float()
    own = pool_prototypes(features, mask.unsqueeze(1))[0, 0]
    copies = features.repeat(1, 1, 3, 1)
    found = distilled_average(copies, mask.repeat(1, 3, 1), torch.ones(1, 15, 6), tau=0.5)[0]
    torch.testing.assert_close(torch.cosine_similarity(own + found, own, dim=0), torch.tensor(1.0))


def plain(real: EpisodeBatch) -> Tensor:
    torch.manual_seed(0)
    panet = PANet(PANetConfig.model_validate({"backbone": "efficientnet_lite0", "size": (SIDE, SIDE)})).eval()
    return panet.segment(real)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tau": 0.0}], ids=["no rounds", "nothing within tau"])
def test_without_fusion_it_is_panet_exactly(real: EpisodeBatch, options: dict[str, object]) -> None:
    assert torch.equal(fsil(**options).segment(real), plain(real))


def test_without_auxiliary_images_it_is_panet_exactly(real: EpisodeBatch) -> None:
    assert real.auxiliary is not None
    none = {"feature": real.auxiliary["feature"][:, :, :0]}
    assert torch.equal(fsil().segment(replace(real, auxiliary=None)), plain(real))
    assert torch.equal(fsil().segment(replace(real, auxiliary=none)), plain(real))
    assert not torch.equal(fsil().segment(real), plain(real))


def test_an_auxiliary_image_orthogonal_to_the_prototype_changes_nothing() -> None:
    method = fsil(tau=0.9)
    assert torch.equal(method.segment(drawn([[10, 20], [90, 90]])), method.segment(drawn([[10, 20]])))
    assert torch.equal(method.segment(drawn([[90, 90]])), method.segment(drawn(None)))


def test_the_order_of_auxiliary_images_does_not_matter(real: EpisodeBatch) -> None:
    assert real.auxiliary is not None
    turned = replace(real, auxiliary={"feature": real.auxiliary["feature"].flip(2)})
    torch.testing.assert_close(fsil().segment(turned), fsil().segment(real))


def test_ways_look_only_at_their_own_auxiliary_images(real: EpisodeBatch) -> None:
    assert real.auxiliary is not None
    feature = real.auxiliary["feature"].clone()
    feature[:, 1] = feature[:, 1].flip(2)
    before, after = fsil().prototypes(real), fsil().prototypes(replace(real, auxiliary={"feature": feature}))
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2], before[:, 2])


def test_support_targets_name_the_way_and_leave_out_what_is_not_known() -> None:
    codes = torch.tensor([BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID], dtype=torch.uint8)
    found = support_targets(codes.expand(1, 2, 1, 1, 5))
    assert found[0, :, 0, 0].tolist() == [[0, 1, 255, 255, 255], [0, 2, 255, 255, 255]]


def supervised(auxiliary: list[list[float]], labels: list[int]) -> float:
    batch = drawn(auxiliary)
    support = batch.support | {"feature": torch.tensor([unit(30), unit(85), unit(95)]).T[None, None, None, :, None]}
    codes = torch.tensor(labels, dtype=torch.uint8)[None, None, None, None]
    changed = replace(batch, support=support, load_support_labels=lambda: codes)
    return float(fsil(tau=2.0, scale=5.0).support_loss(changed).mean())


def test_the_support_loss_rises_when_auxiliary_images_show_another_class() -> None:
    truth = [OBJECT, BACKGROUND, BACKGROUND]
    own_class, another = supervised([[3, -3, 85]], truth), supervised([[-60, -70, -65]], truth)
    assert another > 1.5 * own_class


def test_the_loss_is_the_sum_of_query_and_support_cross_entropy(real: EpisodeBatch) -> None:
    method = fsil()
    assert real.query_labels is not None
    with torch.no_grad():
        features = method.encode(real.support_pixels.flatten(0, 2))["feature"]
        each = [(real.query["feature"], method.prototypes(real), real.query_labels)]
        supports = method.prototypes(real).repeat_interleave(4, dim=0)
        each += [(features, supports, support_targets(real.support_labels).flatten(0, 2))]
        expected = 0.0
        for maps, vectors, labels in each:
            cosine = torch.einsum("bchw,bpc->bphw", maps / maps.norm(dim=1, keepdim=True), unit_length(vectors))
            full = torch.nn.functional.interpolate(20 * cosine, (SIDE, SIDE), mode="bilinear")
            own = full.softmax(1).gather(1, labels.clamp_max(2).unsqueeze(1))[:, 0][labels != 255]
            expected += float(-own.log().mean())
        assert float(method.loss(real)) == pytest.approx(expected, rel=1e-4)


def unit_length(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=2, keepdim=True)


def test_the_fusion_passes_gradients_to_the_auxiliary_images() -> None:
    batch = drawn([[10, 40, 60]])
    assert batch.auxiliary is not None
    feature = batch.auxiliary["feature"].requires_grad_()
    fsil().segment(batch)[:, 1].sum().backward()
    assert feature.grad is not None
    assert feature.grad.abs().sum() > 0


def test_a_checkpoint_of_panets_authors_is_not_taken_for_fsil() -> None:
    with pytest.raises(CheckpointError, match="no converter"):
        fsil().load_official({})
