"""Worse masks of supports: what each does to an object, and that a bank freezes them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from toy_data import few_shapes

from fssbench.banks.annotations import KINDS, annotate
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.qualities import LEVELS, QUALITIES
from fssbench.banks.randomness import stream
from fssbench.banks.schema import ANNOTATION_KINDS
from fssbench.banks.verify import problems
from fssbench.datasets.shapes5i import Shapes5i
from fssbench.protocols import FSSBENCH


def disc(radius: int = 40, size: int = 140) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    labels = np.zeros((size, size), np.uint8)
    labels[rows**2 + columns**2 <= radius**2] = 4
    labels[0, 0] = 255
    return labels


def worse(kind: str, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    codes = annotate(kind, labels, 4, stream(seed))
    assert set(np.unique(codes).tolist()) <= {0, 1}
    return codes == 1


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_a_square_of_50_px_loses_and_gains_as_many_pixels_as_the_level_says() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[25:75, 25:75] = 4
    for level, rim in zip(LEVELS, (1, 2, 3, 4, 5), strict=True):  # 2 % of 50 px a level
        inner = np.zeros((100, 100), bool)
        inner[25 + rim : 75 - rim, 25 + rim : 75 - rim] = True
        np.testing.assert_array_equal(worse(f"eroded-{level}", labels), inner)
        outer = np.zeros((100, 100), bool)
        outer[25 - rim : 75 + rim, 25 - rim : 75 + rim] = True
        np.testing.assert_array_equal(worse(f"dilated-{level}", labels), outer)
        np.testing.assert_array_equal(worse(f"boxed-{level}", labels), outer)


def test_a_wider_box_ends_at_the_border_of_the_image() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[:50, 2:52] = 4
    found = np.zeros((60, 60), bool)
    found[:53, :55] = True
    np.testing.assert_array_equal(worse("boxed-3", labels), found)


def test_a_shifted_object_is_the_object_elsewhere() -> None:
    labels = disc()
    found = worse("shifted-2", labels)
    (rows, columns), (y, x) = ndimage.center_of_mass(found), ndimage.center_of_mass(labels == 4)
    reach = int((labels == 4).sum() ** 0.5) // 10
    assert {abs(round(rows - y)), abs(round(columns - x))} <= {0, reach} != {0}
    assert found.sum() == (labels == 4).sum()


def test_a_ragged_border_changes_pixels_near_the_border_only_and_on_both_sides() -> None:
    labels = disc()
    found, mask = worse("ragged-3", labels), labels == 4
    changed = found != mask
    reach = int(mask.sum() ** 0.5) * 6 // 100
    rim = ndimage.binary_dilation(mask, np.ones((3, 3)), reach) & ~ndimage.binary_erosion(mask, np.ones((3, 3)), reach)
    assert not (changed & ~rim).any()
    assert (changed & mask).any()
    assert (changed & ~mask).any()


@pytest.mark.parametrize("quality", ["eroded", "dilated", "shifted", "ragged", "boxed"])
def test_a_higher_level_is_a_worse_mask(quality: str) -> None:
    labels = disc()
    found = [np.mean([iou(worse(f"{quality}-{n}", labels, s), labels == 4) for s in range(5)]) for n in LEVELS]
    assert all(first > second for first, second in pairwise(found)), found


@pytest.mark.parametrize("place", [(0, 0), (4, 8), (8, 4)])
def test_an_object_of_one_pixel_never_vanishes(place: tuple[int, int]) -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[place] = 4
    assert all(worse(kind, labels, seed).any() for kind in QUALITIES for seed in range(4))


def test_a_bank_holds_exactly_the_kinds_that_can_be_drawn() -> None:
    assert sorted(KINDS) == sorted(ANNOTATION_KINDS)


def test_a_bank_freezes_worse_masks_and_verify_draws_them_again(tmp_path: Path) -> None:
    kinds = ("ragged-2", "shifted-5")
    request = Request(FSSBENCH.but(episodes=3, min_area=1), shots=(1,), folds=(0,), annotations=kinds)
    with few_shapes():
        generate(Shapes5i(tmp_path), request, tmp_path / "bank.h5")
    with open_bank(tmp_path / "bank.h5") as bank:
        assert list(problems(bank)) == []
        episodes = bank.episodes(0)
        image, class_id = int(episodes.support[0, 0, 0]), int(episodes.classes[0, 0])
        clean = bank.masks.of_class(image, class_id) == 1
        for kind in kinds:
            assert 0 < iou(bank.masks.annotation(kind, image, class_id) == 1, clean) < 1
