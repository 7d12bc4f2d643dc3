"""Resizing, merging and counting against hand computation and other libraries."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fssbench.engine.counting import Resolution, count, labels_at, truth_at
from fssbench.method import Method, Preprocess, strongest
from fssbench.scoring.pixels import count_pixels


def a_method(align_corners: bool = False) -> Method:
    return SimpleNamespace(align_corners=align_corners, decide=lambda logits: logits.argmax(1))  # type: ignore[return-value]


def test_counts_of_the_worked_example_by_hand() -> None:
    prediction = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    truth = torch.tensor([[1, 1, 255, 0], [1, 1, 255, 0], [255, 255, 255, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    assert count(prediction, truth, 1).tolist() == [[4, 0, 0, 7, 1, 4]]


@given(
    arrays(np.uint8, (6, 7), elements=st.integers(0, 2)),
    arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 255])),
)
def test_counting_on_the_device_equals_counting_in_numpy(prediction: np.ndarray, truth: np.ndarray) -> None:
    rows = count(torch.from_numpy(prediction), torch.from_numpy(truth), 2).tolist()
    assert rows == [count_pixels(prediction, truth, way).tolist() for way in (0, 1, 2)]


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_to_the_original_size_before_the_argmax(align_corners: bool) -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    label = labels_at(a_method(align_corners), logits[None], 1, (31, 17), Preprocess((40, 40)), Resolution())[0]
    whole = F.interpolate(logits[None], (31, 17), mode="bilinear", align_corners=align_corners)
    assert label.tolist() == whole.argmax(1)[0].tolist()


def test_the_padding_of_an_input_is_cut_off_before_resizing() -> None:
    """An object that fills the image fills the prediction; what is predicted on the canvas beside it is lost."""
    how = Preprocess((40, 40), fit="pad")
    logits = torch.zeros(2, 40, 40)
    logits[1, :20, :] = 1  # the image, 20 x 40 on the canvas
    logits[0, :20, :] = -1
    logits[1, 20:, :] = -5
    label = labels_at(a_method(), logits[None], 1, (50, 100), how, Resolution())[0]
    assert label.shape == (50, 100)
    assert label.all()


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_the_strongest_channel_is_torchs_argmax_ties_included(channels: int) -> None:
    logits = torch.randint(0, 4, (3, channels, 9, 8), generator=torch.Generator().manual_seed(channels)).float()
    assert strongest(logits, 1).tolist() == logits.argmax(1).tolist()


def test_counting_survives_more_ways_than_fit_a_byte() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, truth = (torch.randint(0, 21, (40, 50), generator=generator).to(torch.uint8) for _ in range(2))
    expected = [count_pixels(prediction.numpy(), truth.numpy(), way).tolist() for way in range(21)]
    assert count(prediction, truth, 20).tolist() == expected


def test_one_way_results_are_merged_by_the_strongest_claim() -> None:
    ways = torch.tensor([[[[0.0, 0, 0]], [[1.0, 3, -1]]], [[[0.0, 0, 0]], [[2.0, 1, -2]]]])  # 2 ways x 2 x 1 x 3
    label = labels_at(a_method(), ways[None], 2, (1, 3), Preprocess((1, 3)), Resolution())[0]
    assert label.tolist() == [[2, 1, 0]]


def test_a_way_that_no_shot_claims_is_not_taken_for_its_margin() -> None:
    """By votes a pixel may be claimed with a mean margin below that of a way without any vote."""
    voting = SimpleNamespace(align_corners=False, decide=lambda logits: logits.argmax(2).amax(1))
    claimed, not_claimed = torch.tensor([1.0, -9.0]), torch.tensor([-1.0, -1.0])  # margins of two shots
    ways = torch.zeros(1, 2, 2, 2, 1, 1)  # B x ways x S x 2 x 1 x 1
    ways[0, 0, :, 1, 0, 0], ways[0, 1, :, 1, 0, 0] = claimed, not_claimed
    assert labels_at(voting, ways, 2, (1, 1), Preprocess((1, 1)), Resolution()).tolist() == [[[1]]]  # type: ignore[arg-type]


def test_a_square_resolution_resizes_the_truth_by_nearest() -> None:
    truth = torch.tensor([[0, 1], [255, 2]], dtype=torch.uint8)
    doubled = [[0, 0, 1, 1], [0, 0, 1, 1], [255, 255, 2, 2], [255, 255, 2, 2]]
    assert truth_at(truth, Resolution("square", 4)).tolist() == doubled


def test_a_padded_resolution_puts_the_truth_top_left_and_ignores_the_rest() -> None:
    truth = torch.ones(2, 4, dtype=torch.uint8)
    found = truth_at(truth, Resolution("padded"))
    assert found.shape == (4, 4)
    assert found[:2].eq(1).all()
    assert found[2:].eq(255).all()
