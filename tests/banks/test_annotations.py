"""Boxes, scribbles and points derived from masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from fssbench.banks.annotations import annotate
from fssbench.banks.randomness import stream
from fssbench.errors import DataError, UsageError

KINDS = ("box", "scribble", "point")


def two_squares() -> np.ndarray:
    """Class 2: 4 x 5 px at (2, 3), 2 x 2 px at (12, 10); class 7 at the corner; void beside the larger one."""
    labels = np.zeros((16, 16), np.uint8)
    labels[2:6, 3:8] = 2
    labels[12:14, 10:12] = 2
    labels[15, 15] = 7
    labels[2:6, 8] = 255
    return labels


def blobs(seed: int, size: int = 96) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 7)
    labels = np.zeros((size, size), np.uint8)
    labels[noise > 0.02] = 3
    labels[noise < -0.05] = 5
    return labels


def test_the_box_of_the_largest_part_is_object_and_its_ends_belong_to_it() -> None:
    codes = annotate("box", two_squares(), 2, stream(0))
    expected = np.zeros((16, 16), np.uint8)
    expected[12:14, 10:12] = 3
    expected[2:6, 3:8] = 1
    np.testing.assert_array_equal(codes, expected)


def test_an_l_shaped_object_brings_its_whole_box() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[1:7, 1] = labels[6, 1:6] = 4
    codes = annotate("box", labels, 4, stream(0))
    assert (codes[1:7, 1:6] == 1).all()
    assert (codes == 1).sum() == 6 * 5


def test_parts_that_touch_at_a_corner_are_one_instance() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[1:3, 1:3] = labels[3:5, 3:5] = 4
    assert (annotate("box", labels, 4, stream(0)) == 1).sum() == 16


def test_of_two_equal_parts_the_upper_one_is_boxed() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[5, 1:3] = labels[1, 5:7] = 4
    codes = annotate("box", labels, 4, stream(0))
    assert (codes[1, 5:7] == 1).all()
    assert (codes[5, 1:3] == 3).all()


@given(arrays(np.uint8, (12, 15), elements=st.sampled_from([0, 0, 0, 1, 1, 2, 255])), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_a_box_follows_its_definition_on_any_map(labels: np.ndarray, seed: int) -> None:
    labels[0, 0] = 1
    codes = annotate("box", labels, 1, stream(seed))
    assert set(np.unique(codes)) <= {0, 1, 3}
    assert (codes[labels == 1] != 0).all()
    rows, columns = np.nonzero(codes == 1)
    assert (codes == 1).sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    inside = labels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 1
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    assert all(edge.any() for edge in edges)


@given(arrays(np.uint8, (20, 14), elements=st.sampled_from([0, 0, 0, 1, 1, 2, 255])), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("kind", ["scribble", "point"])
def test_strokes_and_dots_never_lie_on_the_wrong_thing(kind: str, labels: np.ndarray, seed: int) -> None:
    labels[0, 0] = 1
    codes = annotate(kind, labels, 1, stream(seed))
    assert codes.shape == labels.shape
    assert set(np.unique(codes)) <= {0, 1, 3}
    assert (codes == 1).any()
    assert (labels[codes == 1] == 1).all()
    assert not np.isin(labels[codes == 0], [1, 255]).any()
    if (labels == 0).any():
        assert (codes == 0).any()
        assert (labels[codes == 0] == 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_stroke_is_one_thin_connected_line_that_spans_its_object(seed: int) -> None:
    labels = np.zeros((120, 200), np.uint8)
    labels[40:80, 20:180] = 9
    stroke = annotate("scribble", labels, 9, stream(seed)) == 1
    assert ndimage.label(stroke, np.ones((3, 3)))[1] == 1
    assert stroke.sum() < 0.15 * (labels == 9).sum()
    rows, columns = np.nonzero(stroke)
    assert np.ptp(columns) > 0.5 * 160
    middle = rows[(columns > 60) & (columns < 140)]
    assert middle.min() > 50 and middle.max() < 70  # it keeps to the middle


def test_a_stroke_of_a_bent_object_follows_the_bend() -> None:
    rows, columns = np.mgrid[:200, :200] - 100
    radius = rows**2 + columns**2
    labels = ((radius < 90**2) & (radius > 60**2) & ~((columns > 0) & (abs(rows) < 30))).astype(np.uint8)
    stroke = annotate("scribble", labels, 1, stream(1)) == 1
    assert stroke[:, :100].any() and stroke[:60, 100:].any() and stroke[140:, 100:].any()


@pytest.mark.parametrize("seed", range(8))
def test_a_dot_lies_well_inside_its_object(seed: int) -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[10:71, 20:81] = 1  # 61 px wide: half as deep as the deepest is 15 px from the rim
    dot = annotate("point", labels, 1, stream(seed)) == 1
    rows, columns = np.nonzero(dot)
    assert 5 <= dot.sum() <= 40
    assert np.ptp(rows) <= 4 and np.ptp(columns) <= 4
    assert rows.min() >= 10 + 13 and rows.max() <= 70 - 13


def test_a_dot_on_a_large_object_is_a_disc() -> None:
    """Radius 6 at 600 px: pixels within the root of 36 + 3 of the middle one, counted by hand on squared paper."""
    labels = np.zeros((600, 600), np.uint8)
    labels[100:500, 100:500] = 1
    dot = annotate("point", labels, 1, stream(0)) == 1
    widths = [3, 7, 9, 11, 11, 13, 13, 13, 11, 11, 9, 7, 3]
    assert [n for n in dot.sum(0).tolist() if n] == widths
    assert [n for n in dot.sum(1).tolist() if n] == widths


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_gives_the_same_annotation_and_the_map_is_left_alone(kind: str, seed: int) -> None:
    labels = blobs(seed)
    before = labels.copy()
    first, again = (annotate(kind, labels, 3, stream(seed, 5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, before)
    assert first.dtype == np.uint8


@pytest.mark.parametrize("kind", ["scribble", "point"])
def test_another_seed_gives_another_annotation(kind: str) -> None:
    labels = blobs(0)
    drawn = {annotate(kind, labels, 3, stream(seed)).tobytes() for seed in range(6)}
    assert len(drawn) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_full_of_the_object_has_no_background_label(kind: str) -> None:
    codes = annotate(kind, np.full((30, 40), 6, np.uint8), 6, stream(0))
    assert not (codes == 0).any()
    assert (codes == 1).any()


@pytest.mark.parametrize("kind", ["scribble", "point"])
def test_where_everything_has_a_class_the_others_are_the_background(kind: str) -> None:
    labels = np.full((60, 60), 2, np.uint8)
    labels[:, 30:] = 5
    codes = annotate(kind, labels, 5, stream(0))
    assert (codes == 0).any()
    assert not (codes[:, 30:] == 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_pixel_is_enough_and_class_ids_may_go_beyond_255(kind: str) -> None:
    labels = np.zeros((9, 9), np.uint16)
    labels[4, 4] = 999
    codes = annotate(kind, labels, 999, stream(0))
    assert codes[4, 4] == 1
    assert (codes == 1).sum() == 1


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="class 8"):
        annotate("box", two_squares(), 8, stream(0))


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="scribble"):
        annotate("scribbles", two_squares(), 2, stream(0))
