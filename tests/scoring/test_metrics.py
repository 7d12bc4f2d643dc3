"""Scoring against hand computation and against what eight authors' metric codes gave for the same masks."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fssbench.errors import RecordError
from fssbench.protocols import PROTOCOLS
from fssbench.records import COLUMNS
from fssbench.scoring.metrics import prepare, summarise
from fssbench.scoring.pixels import count_pixels, iou, validate_labels
from fssbench.scoring.rules import ScoringRules, rules_of


def frame(*rows: tuple[int, int, int, list[int]], run: int = 0) -> pd.DataFrame:
    """Rows of (fold, class, episode, six counts)."""
    return pd.DataFrame(
        [[fold, run, episode, episode, 1, c, "q", "s", *counts] for fold, c, episode, counts in rows], columns=COLUMNS
    )


def close(found: float | None, expected: float | None) -> bool:
    if expected is None or found is None:
        return found is expected
    return math.isclose(found, expected, abs_tol=1e-6)


def test_counts_separate_ignored_pixels_by_prediction() -> None:
    prediction = np.array([[1, 1, 0], [0, 1, 0]])
    label = np.array([[1, 0, 1], [0, 255, 255]])
    assert count_pixels(prediction, label).tolist() == [1, 1, 1, 1, 1, 1]


def test_another_way_is_background_to_this_one() -> None:
    prediction = np.array([[2, 2, 1, 0]])
    label = np.array([[2, 1, 1, 2]])
    assert count_pixels(prediction, label, way=2).tolist() == [1, 1, 1, 1, 0, 0]


def test_counts_agree_with_a_pixel_by_pixel_loop() -> None:
    rng = np.random.default_rng(3)
    prediction, label = rng.integers(0, 2, (13, 17)), rng.choice([0, 1, 255], (13, 17))
    expected = [0] * 6
    for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        expected[{(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3, (1, 255): 4, (0, 255): 5}[p, t]] += 1
    assert count_pixels(prediction, label).tolist() == expected


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"the label's size, H x W = \(2, 3\), got one of \(2, 2\)"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "integers"),
        (np.full((2, 2), 2), np.zeros((2, 2), int), r"prediction to hold only \[0, 1\], got \[2\]"),
        (np.zeros((2, 2), int), np.full((2, 2), 7), r"label to hold only"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(prediction: Any, label: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_labels(prediction, label)


def test_iou_of_an_empty_union_is_undefined() -> None:
    assert np.isnan(iou([0, 0, 0]))


def test_a_class_sums_its_episodes_before_it_divides() -> None:
    episodes = frame((0, 1, 0, [1, 0, 1, 8, 0, 0]), (0, 1, 1, [6, 2, 0, 2, 0, 0]))
    assert close(summarise(episodes, {0: [1]})["miou"], 7 / 10)  # the mean of the IoUs would be (1/2 + 3/4) / 2
    assert close(summarise(episodes, {0: [1]}, ScoringRules(accumulation="episode"))["miou"], 0.625)


def test_episode_mean_gives_a_missed_object_zero_and_skips_an_empty_union() -> None:
    episodes = frame((0, 1, 0, [0, 0, 5, 5, 0, 0]), (0, 1, 1, [4, 0, 0, 6, 0, 0]), (0, 1, 2, [0, 0, 0, 9, 0, 0]))
    assert close(summarise(episodes, {0: [1]}, ScoringRules(accumulation="episode"))["miou"], 0.5)


def test_there_is_no_mean_while_a_fold_of_the_bank_is_missing() -> None:
    summary = summarise(frame((1, 2, 0, [3, 1, 0, 6, 0, 0])), {0: [1], 1: [2]})
    assert summary["miou"] is None and summary["fb_iou"] is None
    assert summary["missing_folds"] == [0]
    assert close(summary["folds"]["1"]["miou"], 0.75)


def test_classes_weigh_the_same_whatever_their_number_of_episodes() -> None:
    episodes = frame(*((0, 1, i, [1, 1, 0, 8, 0, 0]) for i in range(9)), (0, 2, 9, [9, 0, 0, 1, 0, 0]))
    assert close(summarise(episodes, {0: [1, 2]})["miou"], 0.75)


@pytest.mark.parametrize(("absent", "expected"), [("skip", 0.5), ("zero", 0.25), ("nan", None), ("error", None)])
def test_an_absent_class_follows_the_rule(absent: Any, expected: float | None) -> None:
    summary = summarise(frame((0, 1, 0, [2, 2, 0, 6, 0, 0])), {0: [1, 2]}, ScoringRules(absent_class=absent))
    assert close(summary["miou"], expected)
    assert summary["folds"]["0"]["absent"] == [2]


def test_several_runs_are_scored_one_by_one_and_averaged() -> None:
    episodes = pd.concat([
        frame((0, 1, 0, [1, 0, 1, 8, 0, 0])),
        frame((0, 1, 0, [9, 1, 0, 0, 0, 0]), run=1),
    ])  # fmt: skip
    summary = summarise(episodes, {0: [1]})
    assert close(summary["miou"], (0.5 + 0.9) / 2)
    assert close(summary["miou_std"], 0.4 / math.sqrt(2))
    assert summary["runs"] == 2 and summary["episodes"] == 2


def two_way() -> tuple[np.ndarray, np.ndarray]:
    return np.array([[1, 2, 0, 0, 0], [2, 2, 0, 1, 0]]), np.array([[1, 1, 0, 0, 255], [2, 0, 0, 255, 255]])


def test_two_ways_have_no_fb_iou_without_a_row_for_the_background() -> None:
    rows = [[0, 0, 0, 0, w, w, "q", "s", *count_pixels(*two_way(), way=w)] for w in (1, 2)]
    summary = summarise(pd.DataFrame(rows, columns=COLUMNS), {0: [1, 2]})
    assert close(summary["miou"], (1 / 2 + 1 / 3) / 2)
    assert summary["fb_iou"] is None and summary["episodes"] == 1


@pytest.mark.parametrize(
    ("ignored", "fg", "bg"),
    # By hand: way 1 has TP 1, FN 1; way 2 TP 1, FP 2; background TP 3, FN 1. Of the ignored pixels one was predicted
    # way 1 and two background.
    [("ignore", 2 / 5, 3 / 4), ("background", 2 / 6, 5 / 7)],
)
def test_two_way_fb_iou_takes_the_background_from_its_own_row(ignored: Any, fg: float, bg: float) -> None:
    rows = [[0, 0, 0, 0, w, w, "q", "s", *count_pixels(*two_way(), way=w)] for w in (0, 1, 2)]
    summary = summarise(pd.DataFrame(rows, columns=COLUMNS), {0: [1, 2]}, ScoringRules(ignore_label=ignored))
    assert close(summary["folds"]["0"]["fg_iou"], fg)
    assert close(summary["folds"]["0"]["bg_iou"], bg)
    assert close(summary["fb_iou"], (fg + bg) / 2)


def test_a_class_or_fold_from_another_bank_is_refused() -> None:
    with pytest.raises(RecordError, match="fold 3"):
        summarise(frame((3, 1, 0, [1, 0, 0, 1, 0, 0])), {0: [1]})
    with pytest.raises(RecordError, match=r"found \[9\]"):
        summarise(frame((0, 9, 0, [1, 0, 0, 1, 0, 0])), {0: [1]})


def test_the_summary_is_plain_json() -> None:
    summary = summarise(frame((0, 1, 0, [1, 0, 1, 8, 0, 0])), {0: [1], 1: [2]})
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def episodes_of(case: dict[str, Any]) -> pd.DataFrame:
    rows = [
        [e["fold"], 0, i, i, 1, e["class_id"], "q", "s", *count_pixels(np.array(e["pred"]), np.array(e["label"]))]
        for i, e in enumerate(case["episodes"])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize("code", ["panet", "sgone", "canet", "pmms", "pfenet", "hsnet", "repri", "bam"])
def test_the_authors_own_metric_code_gives_the_same(code: str, metric_case: dict[str, Any]) -> None:
    expected = metric_case["expected"].get(code)
    if expected is None:
        pytest.skip(f"{code} has no value for {metric_case['name']}")
    rules = rules_of(PROTOCOLS[code].model_dump())
    episodes = episodes_of(metric_case)
    folds = {int(fold): classes for fold, classes in metric_case["folds"].items()}
    summary = summarise(episodes, folds, rules)
    for fold, values in expected["folds"].items():
        ours = summary["folds"][fold]
        assert {c: close(ours["classes"][c], v) for c, v in values["class_iou"].items()} == dict.fromkeys(
            values["class_iou"], True
        )
        assert close(ours["miou"], values["miou"])
        for key in ("fb_iou", "fg_iou", "bg_iou"):
            if values.get(key) is not None:  # null: that code does not compute it
                assert close(ours[key], values[key])
    if "miou_mean_over_folds" in expected:
        assert close(summary["miou"], expected["miou_mean_over_folds"])
    if expected.get("fb_iou_mean_over_folds") is not None:
        assert close(summary["fb_iou"], expected["fb_iou_mean_over_folds"])
    if "fb_iou_pooled_over_folds" in expected:
        assert close(summary["fb_iou"], expected["fb_iou_pooled_over_folds"])
    if "miou_over_all_classes" in expected:  # these codes count the classes of folds that were not run as 0
        every = every_fold(metric_case, folds)
        assert close(summarise(episodes, every, rules, every_fold=False)["miou"], expected["miou_over_all_classes"])


def every_fold(case: dict[str, Any], folds: dict[int, list[int]]) -> dict[int, list[int]]:
    """The four folds of the data set; the classes of those that were not run only need to be as many."""
    size = {"pascal": 5, "coco": 20}[case["dataset"]]
    return {fold: folds.get(fold, list(range(1000 + fold * size, 1000 + (fold + 1) * size))) for fold in range(4)}


def test_the_reference_with_255_ignored_is_ours(metric_case: dict[str, Any]) -> None:
    reference = metric_case.get("reference_ignore255")
    if reference is None:
        pytest.skip("no reference in this case")
    episodes, folds = episodes_of(metric_case), {int(f): c for f, c in metric_case["folds"].items()}
    pooled = summarise(episodes, folds, ScoringRules(absent_class="skip"))
    each = summarise(episodes, folds, ScoringRules(absent_class="skip", accumulation="episode"))
    for fold, values in reference["folds"].items():
        assert close(pooled["folds"][fold]["miou"], values["miou_present_classes"])
        assert close(pooled["folds"][fold]["fb_iou"], values["fb_iou"])
        assert close(each["folds"][fold]["miou"], values["miou_episode_mean_then_class_mean"])
    together = summarise(episodes, folds, ScoringRules(absent_class="skip", fb_pooling="all"))
    assert close(together["fb_iou"], reference["fb_iou_pooled_over_folds"])


def test_the_false_positive_rate_is_over_the_pixels_of_queries_that_lack_the_class() -> None:
    rules = ScoringRules(absent_class="zero", negatives=True)
    rows = frame(
        (0, 1, 0, [4, 1, 1, 94, 0, 0]),  # shows the class: not in the rate
        (0, 1, 1, [0, 5, 0, 95, 7, 3]),
        (0, 2, 2, [0, 0, 0, 50, 0, 0]),
        (1, 3, 0, [0, 10, 0, 30, 0, 0]),
    )
    summary = summarise(rows, {0: [1, 2], 1: [3]}, rules)
    assert close(summary["folds"]["0"]["false_positive_rate"], 5 / 150)
    assert close(summary["folds"]["1"]["false_positive_rate"], 10 / 40)
    assert close(summary["false_positive_rate"], (5 / 150 + 10 / 40) / 2)
    assert close(summary["folds"]["0"]["classes"]["1"], 4 / (4 + 1 + 1 + 5))  # and they count in the class's IoU
    assert close(summary["folds"]["0"]["classes"]["2"], 0.0)
    assert "false_positive_rate" not in summarise(rows, {0: [1, 2], 1: [3]})


def test_the_background_of_several_ways_is_no_query_that_lacks_a_class() -> None:
    rules = ScoringRules(negatives=True)
    summary = summarise(frame((0, 0, 0, [0, 9, 0, 1, 0, 0]), (0, 1, 0, [0, 1, 0, 9, 0, 0])), {0: [1]}, rules)
    assert close(summary["false_positive_rate"], 1 / 10)


def test_episodes_of_any_numbers_are_told_apart() -> None:
    episodes = frame(*[(0, 1, episode, [1, 0, 1, 8, 0, 0]) for episode in (0, 0, 3)])
    episodes["run"] = [0, 1 << 62, 0]  # times 4 episodes: 0, where numbers have 64 bits
    assert prepare(episodes, [1]).knows_background
    assert not prepare(pd.concat([episodes, episodes]), [1]).knows_background
