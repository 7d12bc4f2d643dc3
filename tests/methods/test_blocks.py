"""Pooling by the adjoint, and cosine scores, against their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.blocks import adjoint_resize, cosine_scores, each_alone, masked_sums, pool_prototypes, resize


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("small", "large"), [((13, 9), (97, 50)), ((5, 7), (5, 7)), ((1, 3), (8, 8)), ((9, 9), (4, 6))]
)
def test_masked_sums_are_those_of_upsampled_features(
    small: tuple[int, int], large: tuple[int, int], align_corners: bool
) -> None:
    features, masks = random(2, 6, *small), (random(2, 3, *large) > 0).float()
    upsampled = F.interpolate(features, large, mode="bilinear", align_corners=align_corners)
    expected = torch.einsum("mchw,mrhw->mrc", upsampled, masks)
    torch.testing.assert_close(masked_sums(features, masks, align_corners), expected, rtol=1e-4, atol=1e-4)


def test_the_adjoint_keeps_a_masks_area() -> None:
    masks = (random(1, 2, 40, 30) > 0).float()
    down = adjoint_resize(masks, (7, 5))
    torch.testing.assert_close(down.sum((2, 3)), masks.sum((2, 3)))


def test_a_prototype_is_the_mean_inside_the_mask() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 10.0], [20.0, 30.0]]]])
    masks = torch.tensor([[[[1, 0], [1, 0]]]])  # the left column
    assert pool_prototypes(features, masks, eps=0.0).tolist() == [[[2.0, 10.0]]]


def test_an_empty_mask_gives_a_zero_prototype() -> None:
    assert not pool_prototypes(random(1, 4, 3, 3), torch.zeros(1, 2, 9, 9)).any()


def test_prototypes_pass_gradients_to_the_features_after_inference_mode() -> None:
    with torch.inference_mode():  # fills the cache of interpolation matrices
        masked_sums(random(1, 2, 3, 3), torch.ones(1, 1, 11, 11))
    features = random(1, 2, 3, 3).requires_grad_()
    masked_sums(features, torch.ones(1, 1, 11, 11)).sum().backward()
    assert features.grad is not None
    assert float(features.grad.sum()) == pytest.approx(2 * 121)


def test_cosine_scores_are_cosine_similarities() -> None:
    features, vectors = random(2, 5, 4, 3), random(2, 3, 5)
    expected = F.cosine_similarity(features.unsqueeze(1), vectors[..., None, None], dim=2)
    torch.testing.assert_close(cosine_scores(features, vectors), expected)


def test_a_zero_vector_or_position_has_similarity_zero() -> None:
    features = random(1, 5, 2, 2)
    features[..., 0, 0] = 0
    scores = cosine_scores(features, torch.stack([torch.zeros(1, 5), random(1, 5)], dim=1))
    assert not scores[0, 0].any()
    assert scores[0, 1, 0, 0] == 0


def test_resize_returns_a_map_of_that_size_as_it_is() -> None:
    x = random(1, 2, 4, 4)
    assert resize(x, (4, 4)) is x
    assert resize(x, (8, 6)).shape == (1, 2, 8, 6)


def test_a_processor_takes_rows_one_at_a_time_where_no_gradient_needs_them_together() -> None:
    seen: list[int] = []

    def added(a: Tensor, b: Tensor) -> Tensor:
        seen.append(len(a))
        return a + b

    a, b = torch.arange(6.0).view(3, 2), torch.ones(3, 2)
    together = each_alone(added, a, b)
    with torch.inference_mode():
        alone = each_alone(added, a, b)
    assert seen == [3, 1, 1, 1]
    assert torch.equal(alone, together) and torch.equal(alone, a + b)
