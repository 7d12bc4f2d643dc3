"""Intervals and paired differences on small cases with known answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fssbench.errors import RecordError
from fssbench.records import COLUMNS
from fssbench.scoring.intervals import intervals
from fssbench.scoring.metrics import summarise
from fssbench.scoring.paired import (
    Difference,
    at_level,
    effect_size,
    episode_change,
    measure,
    most_different,
    paired_differences,
    possible_ranks,
)
from fssbench.scoring.rules import ScoringRules


def episodes(ious: list[float], *, fold: int = 0, classes: int = 1, images: int = 1000, run: int = 0) -> pd.DataFrame:
    """Episode i has class i mod `classes` of the fold, query i mod `images`, a union of 1000 and an own support."""
    rows = []
    for i, value in enumerate(ious):
        tp = round(value * 1000)
        counts = [tp, 1000 - tp, 0, 9000, 0, 0]
        class_id = 1 + fold * classes + i % classes
        rows.append([fold, run, i, i, 1, class_id, f"q{fold}-{i % images}", f"s{fold}-{i}", *counts])
    return pd.DataFrame(rows, columns=COLUMNS)


def paired(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Difference]:
    return paired_differences(measure([first], {0: [1]}), measure([second], {0: [1]}))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_values_are_those_of_the_summary() -> None:
    values = np.random.default_rng(5).uniform(0.1, 0.9, 80).tolist()
    frame = pd.concat([episodes(values[:40], classes=2), episodes(values[40:], fold=1, classes=2)], ignore_index=True)
    folds = {0: [1, 2], 1: [3, 4]}
    summary, found = summarise(frame, folds), intervals(frame, folds, rng())
    assert found["mean"].value == pytest.approx(summary["miou"])
    assert found["fb"].value == pytest.approx(summary["fb_iou"])
    assert found["fold 1"].value == pytest.approx(summary["folds"]["1"]["miou"])
    assert found["class 3"].value == pytest.approx(summary["folds"]["1"]["classes"]["3"])
    assert all(0 <= each.low < each.value < each.high <= 1 for each in found.values())


@pytest.mark.parametrize(
    "rules", [ScoringRules(fb_pooling="all", averaging="classes"), ScoringRules(ignore_label="background")]
)
def test_values_follow_the_rules(rules: ScoringRules) -> None:
    values = np.random.default_rng(6).uniform(0.1, 0.9, 70).tolist()
    frame = pd.concat([episodes(values[:40], classes=2), episodes(values[40:], fold=1, classes=2)], ignore_index=True)
    frame["ignored_fg"] = np.arange(70)
    frame["class_id"] = frame["class_id"].clip(upper=3)
    folds = {0: [1, 2], 1: [3]}  # else the mean of classes is that of folds
    summary, found = summarise(frame, folds, rules), intervals(frame, folds, rng(), rules)
    assert found["mean"].value == pytest.approx(summary["miou"])
    assert found["fb"].value == pytest.approx(summary["fb_iou"])
    assert found["fb"].low < found["fb"].value < found["fb"].high


def test_a_bank_of_one_fold_has_one_fb_iou_however_it_is_pooled() -> None:
    found = intervals(episodes([0.2, 0.5, 0.7, 0.4]), {0: [1]}, rng(), ScoringRules(fb_pooling="all"))
    assert found["fb"] == found["fold 0 fb"]


def test_the_standard_error_of_independent_episodes_is_that_of_their_mean() -> None:
    values = np.random.default_rng(1).uniform(0.2, 0.8, 400)
    found = intervals(episodes(values.tolist()), {0: [1]}, rng())["class 1"]
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(400), rel=0.02)
    assert found.high - found.low == pytest.approx(2 * 1.966 * found.error, rel=0.06)  # Student's t, about 399 degrees


def test_an_interval_ends_at_0_and_at_1() -> None:
    """Three images, one of which decides: twice the standard error about the mean leaves the range of an IoU."""
    for values, end in (([0.0, 0.0, 0.4], 0.0), ([1.0, 1.0, 0.6], 1.0)):
        found = intervals(episodes(values), {0: [1]}, rng())["mean"]
        assert abs(found.value - end) < 2 * found.error
        assert end in (found.low, found.high)
        assert 0 <= found.low < found.value < found.high <= 1


def test_few_query_images_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(2).uniform(0.2, 0.8, 20), 20).tolist()
    order = [values[20 * (i % 20) + i // 20] for i in range(400)]  # the value follows the query image
    clustered = intervals(episodes(order, images=20), {0: [1]}, rng())["mean"]
    independent = intervals(episodes(order), {0: [1]}, rng())["mean"]
    assert clustered.error > 3.5 * independent.error  # sqrt(20) = 4.5 times


def test_equal_generators_give_equal_intervals() -> None:
    frame = episodes(np.linspace(0.1, 0.9, 50).tolist())
    assert intervals(frame, {0: [1]}, rng()) == intervals(frame, {0: [1]}, rng())


def test_there_is_no_interval_for_a_mean_with_a_missing_fold() -> None:
    found = intervals(episodes([0.2, 0.5, 0.7]), {0: [1], 1: [2]}, rng())
    assert "mean" not in found and "fold 0" in found


def test_a_class_without_episodes_has_no_interval_and_takes_the_mean_with_it() -> None:
    frame = episodes([0.2, 0.5, 0.7, 0.4])
    found = intervals(frame, {0: [1, 2]}, rng())
    assert "class 2" not in found and "mean" not in found and "class 1" in found
    assert intervals(frame, {0: [1, 2]}, rng(), ScoringRules(absent_class="skip"))["mean"].value == pytest.approx(0.45)


def test_runs_over_the_same_images_do_not_pass_for_new_images() -> None:
    values = np.random.default_rng(3).uniform(0.2, 0.8, 60).tolist()
    once = intervals(episodes(values), {0: [1]}, rng())["mean"]
    copies = pd.concat([episodes(values, run=run) for run in range(4)], ignore_index=True)
    four = intervals(copies, {0: [1]}, rng())["mean"]
    assert four.value == pytest.approx(once.value)
    assert four.error == pytest.approx(once.error, rel=0.15)


def test_a_method_equals_itself() -> None:
    frame = episodes(np.linspace(0.1, 0.9, 50).tolist())
    found = paired(frame, frame)["mean"]
    assert (found.difference, found.error, found.p_value, found.low, found.high) == (0, 0, 1, 0, 0)


def test_a_paired_test_agrees_with_students_where_episodes_share_nothing() -> None:
    from scipy import stats

    base = np.random.default_rng(7).uniform(0.3, 0.6, 300)
    other = base + np.random.default_rng(8).normal(0.004, 0.05, 300)
    a, b = (np.round(values, 3) for values in (other, base))
    expected = stats.ttest_rel(a, b)
    found = paired(episodes(a.tolist()), episodes(b.tolist()))["mean"]
    assert found.difference == pytest.approx((a - b).mean())
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.08)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.0012)
    half, narrow = expected.confidence_interval(0.5), at_level(found, 0.5)
    assert (narrow.low, narrow.high) == pytest.approx((half.low, half.high), abs=0.0012)


def test_what_two_methods_share_cancels() -> None:
    base = np.random.default_rng(9).uniform(0.1, 0.8, 200)
    found = paired(episodes((base + 0.02).round(3).tolist()), episodes(base.round(3).tolist()))["mean"]
    assert found.difference == pytest.approx(0.02, abs=1e-4)
    assert found.p_value < 1e-6


def test_rows_may_come_in_any_order() -> None:
    frame = episodes(np.linspace(0.1, 0.9, 20).tolist())
    mixed = frame.sample(frac=1, random_state=1)
    assert paired(frame, mixed)["mean"].difference == 0


def test_other_episodes_are_refused() -> None:
    frame = episodes([0.1, 0.2, 0.3])
    with pytest.raises(RecordError, match="3 and 2 rows"):
        paired(frame, frame[:2])
    with pytest.raises(RecordError, match=r"row 1 is .*'query': 'q0-1'.*'query': 'other'"):
        paired(frame, frame.assign(query=["q0-0", "other", "q0-2"]))


def test_effect_size_counts_images_not_episodes() -> None:
    a, b = episodes([0.5, 0.7, 0.4, 0.4], images=2), episodes([0.4, 0.4, 0.4, 0.5], images=2)
    found = effect_size(episode_change(a, b))
    # By image: (0.1 + 0) / 2 = 0.05 and (0.3 - 0.1) / 2 = 0.1; mean 0.075, deviation 0.035355.
    assert found.cohen_d == pytest.approx(0.075 / 0.0353553, rel=1e-4)
    assert found.better == pytest.approx((2 + 0.5) / 4)
    assert found.images == 2


def test_the_most_different_episodes_come_first() -> None:
    change = episode_change(episodes([0.5, 0.9, 0.1]), episodes([0.4, 0.2, 0.6]))
    assert most_different(change, 2)["episode"].tolist() == [1, 2]
    assert most_different(change, 2)["change"].tolist() == pytest.approx([0.7, -0.5])


def test_interval_and_test_of_a_difference_never_contradict_each_other() -> None:
    draw = np.random.default_rng(10)
    for _ in range(60):
        base = draw.beta(0.6, 2.0, 40).clip(0.01, 0.99)  # skewed
        other = (base + draw.normal(0.02, 0.06, 40)).clip(0.01, 0.99)
        found = paired(episodes(base.round(3).tolist()), episodes(other.round(3).tolist()))["mean"]
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)


def test_trainings_that_differ_widen_the_interval_of_their_mean() -> None:
    """Three trainings of 0.4, 0.5 and 0.6 on episodes that all have the same IoU: images cause no spread at all."""
    from scipy import stats

    trainings = [episodes([value] * 60) for value in (0.4, 0.5, 0.6)]
    base = episodes([0.3] * 60)
    found = paired_differences(measure(trainings, {0: [1]}), measure([base], {0: [1]}))["mean"]
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0)
    assert found.difference == pytest.approx(0.2)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_ranks_stay_open_where_tests_decide_nothing() -> None:
    draw = np.random.default_rng(11)
    base = draw.uniform(0.2, 0.5, 200)
    frames = [base, base + draw.normal(0, 0.05, 200), base + 0.3 + draw.normal(0, 0.05, 200)]
    measured = [measure([episodes(values.clip(0.01, 0.99).round(3).tolist())], {0: [1]}) for values in frames]
    assert possible_ranks(measured) == [(2, 3), (2, 3), (1, 1)]


def test_equal_results_share_all_ranks_and_a_difference_that_no_image_doubts_decides() -> None:
    """No variance at all: p is 1 for no difference, and 0 for any."""
    same, better = ([measure([episodes([iou] * 60)], {0: [1]})] for iou in (0.3, 0.5))
    assert possible_ranks(same * 3) == [(1, 3)] * 3
    assert possible_ranks(better + same + better) == [(1, 2), (3, 3), (1, 2)]


def test_results_that_are_nearly_the_same_are_told_apart_where_every_image_agrees() -> None:
    """As on another device: the variance of such a difference is lost among the digits of both variances."""
    rng = np.random.default_rng(12)
    base = measure([episodes(rng.uniform(0.2, 0.8, 200).round(3).tolist())], {0: [1]})
    noise = rng.normal(0, 1e-13, base.influence.shape)
    close = replace(base, influence=base.influence + noise, value=base.value + 1e-11)
    assert possible_ranks([base, close]) == [(2, 2), (1, 1)]
    assert possible_ranks([base, replace(close, value=base.value + 1e-13)]) == [(1, 2), (1, 2)]


def test_as_few_trainings_as_there_are_decide_ranks() -> None:
    """Differences of 0.1, 0.12 and 0.14: p is 0.009 with two degrees of freedom, and would be 0.06 with one."""
    from scipy import stats

    assert stats.ttest_1samp([0.1, 0.12, 0.14], 0).pvalue < 0.01
    trainings = [episodes([value] * 60) for value in (0.4, 0.42, 0.44)]
    base = measure([episodes([0.3] * 60)], {0: [1]})
    assert possible_ranks([base, measure(trainings, {0: [1]})]) == [(2, 2), (1, 1)]


def test_an_episode_that_two_methods_see_with_other_supports_has_the_supports_of_both() -> None:
    frame = episodes([0.5, 0.7])
    one, three = (frame.assign(supports=names) for names in (["a", "b"], ["a|c|d", "b"]))
    assert episode_change(one, three)["supports"].tolist() == ["a|c|d", "b"]
