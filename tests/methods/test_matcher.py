"""Matcher: there are no parity cases, so every step is held to its description by hand."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from fssbench.conformance import small_subject
from fssbench.errors import MethodError
from fssbench.scenes import render
from methods.matcher import MANY, Matcher, centres, matched, transport


def matcher(*settings: str) -> Matcher:
    method = small_subject(Matcher, settings).build()
    assert isinstance(method, Matcher)
    return method


def test_a_query_patch_that_falls_back_on_the_background_is_no_match() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.1, 0.5, 0.0, 0.0], [0.0, 0.8, 0.1, 0.0], [0.0, 0.0, 0.0, 0.1]])
    # Forward: patch 0 to cell 0, patch 1 to cell 1; cell 1 resembles the background's patch 2 more.
    assert matched(similarity, torch.tensor([True, True, False, False])).tolist() == [0]
    nothing = torch.tensor([[0.2, 0.1], [0.9, 0.1]])  # where no pair is left, all stay
    assert matched(nothing, torch.tensor([True, False])).tolist() == [0]


@pytest.mark.parametrize(("pairs", "points"), [(MANY, 40), (MANY + 2, 21), (MANY + 3, 21)])
def test_of_more_than_40_pairs_the_more_similar_half_is_kept(pairs: int, points: int) -> None:
    strength = torch.linspace(0.5, 1, pairs)
    found = matched(strength.diag(), torch.ones(pairs, dtype=torch.bool))
    assert found.tolist() == list(range(pairs - points, pairs))


def test_the_distance_is_the_cheapest_way_to_carry_equal_weights() -> None:
    """Three patches into two, by every assignment of sixths."""
    cosines = torch.tensor([[0.9, -0.3], [0.2, 0.4], [0.1, 0.0]])
    cost = ((1 - cosines) / 2).numpy()
    plans = itertools.permutations([0, 0, 0, 1, 1, 1])  # where each sixth of the three patches (two each) goes
    cheapest = min(sum(cost[sixth // 2, to] for sixth, to in enumerate(plan)) / 6 for plan in plans)
    assert float(transport(cosines)) == pytest.approx(cheapest, abs=1e-6)


def test_up_to_eight_points_all_their_subsets_prompt_and_nothing_is_random() -> None:
    method = matcher("sample=4,6")
    prompts = method.prompts(torch.tensor([0, 1, 2, 3, 8, 9, 10, 11]))
    assert [tuple(subset.shape) for subset in prompts] == [(70, 4, 2), (56, 5, 2), (28, 6, 2)]
    assert [tuple(subset.shape) for subset in method.prompts(torch.tensor([5, 6]))] == [(1, 2, 2)]  # sizes clipped
    (alone,) = matcher("sample=1,1").prompts(torch.tensor([11]))  # row 1, column 3: its centre, 112 px to SAM's 64
    assert alone.tolist() == [[[(3 * 14 + 7) * 64 / 112, (14 + 7) * 64 / 112]]]


def test_random_subsets_follow_from_the_points_alone() -> None:
    method, points = matcher("sample=3,4", "subsets=5"), torch.arange(12)
    first = method.prompts(points)
    torch.manual_seed(1), method.prompts(torch.arange(20, 40)), np.random.default_rng().random()
    assert all(torch.equal(one, two) for one, two in zip(first, method.prompts(points), strict=True))
    assert not torch.equal(first[0], method.prompts(torch.arange(1, 13))[0] - 8)  # elsewhere, another draw
    assert all(len({tuple(point) for point in subset.tolist()}) == 3 for subset in first[0])  # without repeats


def test_centres_are_whole_pixels_one_for_each_group() -> None:
    groups = [(10, 10), (10, 90), (90, 90)]
    places = np.array([(x + dx, y) for x, y in groups for dx in (0, 3)])  # the mean is 1.5 to the right
    found = centres(places, 3, np.random.default_rng(0))
    assert sorted(map(tuple, found.tolist())) == [(11, 10), (11, 90), (91, 90)]


def scored(*settings: str) -> list[int]:
    """Masks that are chosen of four on a grid of 6 cells, whose cosines with the one object patch say their emd:
    0.9 (a point in two of its three cells), 0.86 and 0.84 (no point), 0.5 (a point in its one cell)."""
    values = torch.tensor([[0.8, 0.8, 0.8, 0.72, 0.68, 0.0]])
    cells = torch.zeros(4, 6, dtype=torch.bool)
    cells[0, :3] = cells[1, 3] = cells[2, 4] = cells[3, 5] = True
    points = torch.tensor([0, 1, 5])
    return sorted(matcher(*settings).chosen(values, cells, points, many=False).tolist())


def test_masks_are_united_by_their_scores() -> None:
    assert scored("least_purity=0", "most=9,5") == [0, 1]  # 1 - score: 0.14 and 0.16 are 0.04 / 0.5 and 0.06 / 0.5 off
    assert scored("least_purity=0", "most=1,5") == [0]
    assert scored("least_purity=0.02") == [0]  # masks without a point have no purity
    assert scored("least_purity=0", "union=best", "most=9,9") == [0, 1, 2]  # 0.5 is below 70 % of 0.9
    assert scored("least_purity=0", "union=best", "most=9,9", "emd=0.5", "purity=0.5") == [0, 3]
    assert scored("least_purity=0", "least_coverage=0.6") == [0]
    assert scored("least_purity=0", "least_emd=2", "most=9,9") == [0]  # a bound that none reaches keeps the largest


def test_masks_that_sam_doubts_or_that_waver_are_dropped() -> None:
    method = matcher("multimask=true")
    with torch.no_grad():
        features = method.encode(render(method).query)["sam"]
        prompts = torch.tensor([[[20.0, 20.0]], [[40.0, 40.0]]])

        def made(quality: float, stability: float) -> tuple[Tensor, Tensor]:
            return method._made(features, prompts, (112, 112), multimask=True, least=(quality, stability))

        masks, qualities = made(0, 0)
        between = float(qualities.median())
        assert len(masks) <= 6 and len(made(between, 0)[0]) == int((qualities > between).sum())
        assert len(made(0, 1.01)[0]) == 0


def test_a_query_without_a_good_mask_gets_none() -> None:
    method = matcher("quality=9", "dense_quality=9")
    with torch.no_grad():
        assert not method.decide(method.segment(render(method).built(method))).any()


def test_without_the_transport_package_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(MethodError, match=r"POT.*pip install fssbench\[foundation\]"):
        transport(torch.zeros(2, 2))
