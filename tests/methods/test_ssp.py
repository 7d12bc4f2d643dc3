"""SSP beyond its parity cases: pooling, the choice of sure pixels, what is trained, other shapes and backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, build_episodes
from methods.ssp import SSP, SSPConfig, pooled, self_support


def ssp(backbone: str = "efficientnet_lite0", **options: object) -> SSP:
    torch.manual_seed(0)
    return SSP(SSPConfig.model_validate({"backbone": backbone, **options})).eval()


def episodes(method: SSP, shots: int = 1, *, size: tuple[int, int] = (49, 65), same: bool = False) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, *size, generator=generator)
    support = torch.randn(2, 1, 1 if same else shots, 3, *size, generator=generator).expand(-1, -1, shots, -1, -1, -1)
    labels = torch.zeros(2, 1, shots, *size, dtype=torch.uint8)
    labels[:, :, :, 8:40, 10:30] = 1
    return build_episodes(method, query, support, labels, labels[:, 0, 0].long())


def test_void_is_in_neither_prototype() -> None:
    feature = torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]])  # 1 x 1 x 1 x 4
    labels = torch.tensor([[[0, 255, 1, 1]]])
    torch.testing.assert_close(pooled(feature, labels)[0, :, 0], torch.tensor([1.0, 6.0]), atol=1e-4, rtol=0)


def by_loops(feature: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """C x P and 2 x P -> object, background, and local background prototypes, from the paper's words."""
    likely = np.exp(score) / np.exp(score).sum(0)
    sets = []
    for row, threshold in zip(likely, (0.6, 0.7), strict=True):
        sure = np.flatnonzero(row > threshold)
        sets.append(sure if len(sure) else np.argsort(-row)[:12])
    length = np.linalg.norm(feature, axis=0)
    local = np.empty_like(feature)
    for i in range(feature.shape[1]):
        alike = np.array([feature[:, i] @ feature[:, j] / (length[i] * length[j]) for j in sets[0]])
        weights = np.exp(2 * alike) / np.exp(2 * alike).sum()
        local[:, i] = sum(w * feature[:, j] for w, j in zip(weights, sets[0], strict=True))
    return feature[:, sets[1]].mean(1), feature[:, sets[0]].mean(1), local


@pytest.mark.parametrize("sharpness", [0.0, 0.1, 3.0], ids=["all equal", "none sure", "many sure"])
def test_prototypes_come_from_sure_pixels_or_from_the_twelve_likeliest(sharpness: float) -> None:
    rng = np.random.default_rng(0)
    feature, score = rng.standard_normal((2, 5, 4, 6)), sharpness * rng.standard_normal((2, 2, 4, 6))
    if sharpness == 0:
        score[:, 0] = np.linspace(1, 2, 24).reshape(4, 6)  # background everywhere, object nowhere
    step = self_support(torch.from_numpy(feature), torch.from_numpy(score))
    for b in range(2):
        wanted = by_loops(feature[b].reshape(5, -1), score[b].reshape(2, -1))
        found = (step.foreground[b], step.background[b], step.local_background[b].flatten(1))
        for ours, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert {0.0: step.selected[0, 0] == 24, 0.1: not step.selected.any(), 3.0: step.selected.all()}[sharpness]


def test_a_map_smaller_than_twelve_positions_gives_scores() -> None:
    method = ssp(size=(16, 24))
    with torch.no_grad():
        assert torch.isfinite(method.segment(episodes(method, size=(16, 24)))).all()


@pytest.mark.parametrize("refine", [True, False])
def test_the_same_support_twice_is_as_good_as_once(refine: bool) -> None:
    method = ssp(refine=refine)
    with torch.no_grad():
        once, twice = method.segment(episodes(method)), method.segment(episodes(method, 3, same=True))
    torch.testing.assert_close(twice, once, atol=1e-4, rtol=0)


def test_only_the_convolutions_of_layers_2_and_3_are_trained() -> None:
    method = ssp("resnet50")
    trained = [name for name, p in method.named_parameters() if p.requires_grad]
    assert len(trained) == 32  # the authors' optimiser gets as many tensors
    assert all(name.startswith(("encoder.body.layer2.", "encoder.body.layer3.")) for name in trained)
    method.train()
    assert not any(layer.training for layer in method.modules() if isinstance(layer, nn.BatchNorm2d))


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    method = ssp(support_weight=0.5).train()
    batch = episodes(method, 2)
    terms = {name: term.mean() for name, term in method.losses(batch).items()}
    assert set(terms) == {"final", "first", "self", "support"}
    wanted = terms["final"] + terms["first"] + terms["self"] + 0.5 * terms["support"]
    torch.testing.assert_close(method.loss(batch), wanted)


def test_a_checkpoint_of_another_depth_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"missing: .*not known: encoder\.body\.layer4"):
        ssp("resnet50").load_official({"layer4.0.conv1.weight": torch.zeros(1), "layer0.0.0.weight": torch.zeros(1)})
