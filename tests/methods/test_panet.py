"""PANet beyond its parity cases: labels, ways, the alignment term, other backbones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fssbench.errors import CheckpointError, MethodError
from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID, EpisodeBatch, SupportBatch, build_episodes
from methods.panet import PANet, PANetConfig

SMALL = (33, 49)


@pytest.fixture(scope="module")
def panet() -> PANet:
    torch.manual_seed(0)
    return PANet(PANetConfig(backbone="efficientnet_lite0", size=SMALL)).eval()


def episodes(query: Tensor, prototypes: Tensor) -> EpisodeBatch:
    """`query` B x C x h x w; `prototypes` B x N x K x 2 x C."""
    b, n, k = prototypes.shape[:3]
    return EpisodeBatch(
        query={"feature": query},
        support={"prototypes": prototypes},
        size=(b, n, k),
        query_shape=(query.shape[2], query.shape[3]),
        load_support_labels=lambda: torch.zeros(b, n, k, 1, 1, dtype=torch.uint8),
    )


def pooled(method: PANet, labels: list[int]) -> Tensor:
    """Foreground and background vectors of a 1 x n map whose positions count 1, 2, 3, ..."""
    feature = torch.arange(1.0, len(labels) + 1).view(1, 1, 1, -1)
    label = torch.tensor(labels, dtype=torch.uint8).view(1, 1, -1)
    made = method.encode_support(SupportBatch({"feature": feature}, label, lambda: feature))
    return made["prototypes"].flatten()


def test_logits_are_twenty_times_the_cosine_with_background_and_ways(panet: PANet) -> None:
    query = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    ways = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]], [[[5.0, 5.0], [0.0, 6.0]]]]).unsqueeze(0)  # 1 x 2 x 1 x 2 x 2
    found = panet.segment(episodes(query, ways)).flatten()
    # Background: the mean of (0, 2) and (0, 6), then (1, 0) and (5, 5); the query is (0.6, 0.8) after normalising.
    assert found.tolist() == pytest.approx([20 * 0.8, 20 * 0.6, 20 * 1.4 / math.sqrt(2)], abs=1e-4)


def test_prototypes_are_means_of_the_shots_vectors_not_pooled_jointly(panet: PANet) -> None:
    shots = torch.tensor([[[9.0, 0.0], [1.0, 1.0]], [[1.0, 2.0], [3.0, 1.0]]]).view(1, 1, 2, 2, 2)
    assert panet.prototypes(episodes(torch.zeros(1, 2, 1, 1), shots)).tolist() == [[[2.0, 1.0], [5.0, 1.0]]]


def test_other_ways_and_unlabelled_pixels_are_in_neither_region(panet: PANet) -> None:
    foreground, background = pooled(panet, [OBJECT, OTHER_WAY, UNLABELLED, BACKGROUND, OBJECT]).tolist()
    assert (foreground, background) == pytest.approx((3.0, 4.0), abs=1e-3)


@pytest.mark.parametrize(("void_is_background", "expected"), [(True, 2.5), (False, 2.0)])
def test_void_counts_as_background_unless_told(void_is_background: bool, expected: float) -> None:
    config = PANetConfig(backbone="efficientnet_lite0", size=SMALL, void_is_background=void_is_background)
    assert float(pooled(PANet(config).eval(), [OBJECT, BACKGROUND, VOID])[1]) == pytest.approx(expected, abs=1e-3)


def aligned(method: PANet, logits: Tensor) -> float:
    """The alignment loss where query and supports look alike: left (1, 0) is object, right (0, 1) background."""
    feature = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 2)
    labels = torch.tensor([OBJECT, BACKGROUND], dtype=torch.uint8).view(1, 1, 1, 1, 2)
    return float(method.alignment_loss(feature[None, None], logits, feature[None, None, None], labels)[0])


def test_alignment_is_small_where_the_query_was_segmented_rightly_and_large_where_wrongly(panet: PANet) -> None:
    right = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 1, 2)  # channel 0 is the background
    # Scores are 20 for the pixel's own prototype and 0 for the other.
    assert aligned(panet, right) == pytest.approx(math.log1p(math.exp(-20)), abs=1e-6)
    assert aligned(panet, right.flip(2)) == pytest.approx(20, abs=1e-2)


def test_a_way_that_no_query_pixel_is_assigned_to_adds_nothing_to_the_alignment(panet: PANet) -> None:
    nowhere = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 1, 2)
    assert aligned(panet, nowhere) == 0


def test_alignment_belongs_to_training_only() -> None:
    torch.manual_seed(0)
    plain = PANet(PANetConfig(backbone="efficientnet_lite0", size=SMALL, alignment=0))
    method = PANet(PANetConfig(backbone="efficientnet_lite0", size=SMALL))
    method.load_state_dict(plain.state_dict())
    query, labels = torch.randn(2, 3, *SMALL), torch.zeros(2, *SMALL, dtype=torch.int64)
    labels[:, 8:20, 8:30] = 1
    support_labels = labels.byte()[:, None, None]

    def loss(one: PANet) -> float:
        return float(one.loss(build_episodes(one, query, query[:, None, None], support_labels, labels)).detach())

    assert loss(method.eval()) == loss(plain.eval())
    assert loss(method.train()) != loss(plain.train())


def test_stages_of_other_backbones_have_unit_length_side_by_side(panet: PANet) -> None:
    channels = panet.encoder.channels
    feature = panet.encode(torch.randn(1, 3, *SMALL))["feature"]
    assert feature.shape[1] == channels["c4"] + channels["c5"]
    upper, last = feature.split([channels["c4"], channels["c5"]], dim=1)
    torch.testing.assert_close(upper.norm(dim=1), torch.ones_like(upper[:, 0]))
    torch.testing.assert_close(last.norm(dim=1), torch.ones_like(last[:, 0]))


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MethodError, match=r"c1, c2, c3, c4, c5, found 'layer4'"):
        PANet(PANetConfig(backbone="efficientnet_lite0", stages=("layer4",)))


def test_a_checkpoint_with_a_missing_entry_is_refused_by_its_name(panet: PANet) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        panet.load_official({"module.encoder.backbone.features.0.0.weight": torch.zeros(64, 3, 3, 3)})
