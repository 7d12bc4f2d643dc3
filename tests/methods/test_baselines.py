"""The three plain baselines, against hand-made vectors and the conditions of a minimum."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fssbench.backbones import build_backbone
from fssbench.conformance import small_subject
from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID, EpisodeBatch
from fssbench.scenes import render
from methods.baselines import LinearProbe, Nearest, Prototype, default_maps, fit, shares


def test_a_cells_share_leaves_out_void_unlabelled_and_other_ways() -> None:
    labels = torch.tensor([[[OBJECT, OBJECT, BACKGROUND, VOID], [OBJECT, OTHER_WAY, UNLABELLED, BACKGROUND]]])
    assert shares(labels.to(torch.uint8), (1, 2)).tolist() == [[[[0.75, 0.0]], [[0.0, 0.5]]]]


def episode(support: torch.Tensor, share: torch.Tensor, query: torch.Tensor) -> EpisodeBatch:
    """One 1-way 1-shot episode of vectors: C x h x w, 2 x h x w, C x h' x w'."""
    supports = {"vector": support[None], "share": share[None]}
    return EpisodeBatch.of((1, 1, 1), (8, 8), {"vector": query[None]}, supports, torch.zeros(1, 8, 8))


def test_the_nearest_cells_decide_by_their_mean_cosine() -> None:
    method = small_subject(Nearest).build()
    method.config = method.config.model_copy(update={"neighbours": 2})
    angles = torch.tensor([0.0, 0.2, 1.0, 2.0, 2.2, 3.0])
    support = torch.stack([angles.cos(), angles.sin()]).view(2, 1, 6)
    share = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).view(2, 1, 6)
    query = torch.tensor([0.1, 1.6])
    logits = method.segment(episode(support, share, torch.stack([query.cos(), query.sin()]).view(2, 1, 2)))
    near = [[1.9, 2.1], [0.4, 0.6]], [[0.1, 0.1], [0.6, 1.4]]  # angles to the two nearest: background, object
    expected = torch.tensor(near).cos().mean(-1).view(1, 2, 1, 2)
    torch.testing.assert_close(logits, expected)


def test_the_probe_is_the_minimum_of_its_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(60, 5, generator=draw, dtype=torch.float64), dim=1)
    targets = F.one_hot((x[:, 0] + 0.3 * x[:, 1] > 0.1).long(), 2).double()
    weights, bias = fit(x, targets, 1e-2, 3000, balance=False)
    weights.requires_grad_(), bias.requires_grad_()
    loss = F.cross_entropy(x @ weights.T + bias, targets) + 1e-2 / 2 * weights.square().sum()
    gradients = torch.autograd.grad(loss, [weights, bias])
    assert max(float(g.abs().max()) for g in gradients) < 1e-6


def test_a_balanced_probe_gives_the_rare_object_the_weight_of_the_background() -> None:
    x = F.normalize(torch.tensor([[1.0, 0.1]] * 2 + [[1.0, 0.0]] * 98), dim=1)
    targets = torch.tensor([[0.0, 1.0]] * 2 + [[1.0, 0.0]] * 98)
    for balance, share in ((False, 0.02), (True, 0.5)):
        weights, bias = fit(x, targets, 10.0, 500, balance=balance)  # so much decay leaves little but the biases
        assert float((x @ weights.T + bias).softmax(1)[:, 1].mean()) == pytest.approx(share, abs=0.01)


def test_prototypes_are_mean_directions_over_all_shots() -> None:
    method = small_subject(Prototype).build()
    pixels = render(method, 1, 1, 3)
    with torch.no_grad():
        episodes = pixels.built(method)
        found = method.segment(episodes)
        vector = method.encode(pixels.support.flatten(0, 2))["vector"]
        share = shares(pixels.support_labels.flatten(0, 2), (vector.shape[2], vector.shape[3]))
        mean = (vector * share[:, :1]).sum((0, 2, 3)) / share[:, 0].sum()
        expected = F.cosine_similarity(episodes.query["vector"], mean.view(1, -1, 1, 1))
    torch.testing.assert_close(found[:, 1], expected)


def test_vectors_have_unit_length_and_plain_transformers_give_their_last_map() -> None:
    method = small_subject(LinearProbe).build()
    with torch.no_grad():
        vector = method.encode(render(method).query)["vector"]
    torch.testing.assert_close(vector.norm(dim=1), torch.ones_like(vector[:, 0]))
    assert default_maps(build_backbone("efficientnet_lite0")) == ("c4", "c5")
    assert default_maps(build_backbone("timm:test_vit")) == ("c5",)


def test_the_default_input_suits_the_backbones_patches() -> None:
    config = Prototype.Config(backbone="timm:test_vit")
    assert Prototype(config).query_input.size == (416, 416)
    assert build_backbone("timm:vit_small_patch14_dinov2").suited_size(417) == (420, 420)
