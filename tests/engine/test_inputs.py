"""Preprocessing against Pillow and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fssbench.engine.inputs import fit_image, fit_label, normalise
from fssbench.engine.sources import query_truth, support_codes
from fssbench.method import Preprocess


def prepared(image: Image.Image, how: Preprocess) -> np.ndarray:
    return normalise(fit_image(image, how), how).numpy()


RAMP = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))


def test_an_image_is_scaled_to_one_and_normalised_by_channel() -> None:
    how = Preprocess((4, 6), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    out = prepared(RAMP, how)
    assert out.shape == (3, 4, 6)
    assert out.dtype == np.float32
    first = np.asarray(RAMP, np.float64)[0, 0] / 255
    expected = [(first[0] - 0.5) / 0.5, (first[1] - 0.25) / 0.25, first[2]]
    np.testing.assert_allclose(out[:, 0, 0], expected, rtol=1e-6)


def test_bgr_swaps_the_channels_after_normalising_each_with_its_own_numbers() -> None:
    how = Preprocess((4, 6), mean=(0.1, 0.2, 0.3), std=(1 / 255,) * 3)
    bgr = prepared(RAMP, Preprocess(how.size, mean=how.mean, std=how.std, channels="bgr"))
    np.testing.assert_array_equal(bgr, prepared(RAMP, how)[::-1])


def test_pfenets_input_is_padded_at_the_right_and_below_and_rounded_to_eights() -> None:
    how = Preprocess((473, 473), fit="pad", multiple=8, mean=(0, 0, 0), std=(1, 1, 1))
    assert how.fitted(375, 500) == (352, 472)
    white = Image.new("RGB", (500, 375), (255, 255, 255))
    out = prepared(white, how)
    assert out.shape == (3, 473, 473)
    assert out[:, :352, :472].min() == 1
    assert out[:, 352:].max() == out[:, :, 472:].max() == 0
    label = fit_label(np.ones((375, 500), np.uint8), how)
    assert (label[:352, :472] == 1).all()
    assert (label[352:] == 255).all()
    assert (label[:, 472:] == 255).all()


@pytest.mark.parametrize("size", [(7, 9), (4, 6), (2, 3)])
def test_labels_are_resized_by_nearest_and_gain_no_value(size: tuple[int, int]) -> None:
    label = np.array([[0, 1, 2, 255, 0, 1]] * 4, np.uint8)
    out = fit_label(label, Preprocess(size))
    assert out.shape == size
    assert set(np.unique(out)) <= {0, 1, 2, 255}


def test_a_support_label_tells_object_other_way_background_and_void_apart() -> None:
    label = np.array([[0, 3, 7, 9, 255]], np.uint8)
    assert support_codes(label, 3).tolist() == [[0, 1, 0, 0, 255]]
    assert support_codes(label, 3, (7,)).tolist() == [[0, 1, 2, 0, 255]]
    assert query_truth(label, (9, 3)).tolist() == [[0, 2, 0, 1, 255]]
