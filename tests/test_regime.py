"""Whether tested classes are new to a checkpoint, by the facts on its card."""

from __future__ import annotations

import sys

import pytest
from command_line import fresh

from fssbench.errors import UsageError
from fssbench.regime import Regime, authors_regime, base_classes, exposure, list_digest

VOC0 = {1: "aeroplane", 2: "bicycle", 3: "bird", 4: "boat", 5: "bottle"}
VOC1 = {6: "bus", 7: "car", 8: "cat", 9: "chair", 10: "cow"}


def test_a_training_on_the_other_folds_is_clean_and_one_on_the_tested_classes_is_not() -> None:
    base = base_classes("pascal5i", 0)
    assert base is not None
    assert sorted(base) == list(range(6, 21))
    regime = Regime(dataset="pascal5i", fold=0, classes=base)
    assert exposure(regime, "pascal5i", VOC0, 0).state == "clean"
    seen = exposure(regime, "pascal5i", VOC1, 1)
    assert (seen.state, seen.classes) == ("contaminated", tuple(VOC1.values()))
    assert "bus, car, cat, chair, cow" in seen.reason


def test_a_single_class_in_common_is_named() -> None:
    regime = Regime(dataset="pascal5i", fold=0, classes={3: "bird", 11: "diningtable"})
    assert exposure(regime, "pascal5i", VOC0, 0).classes == ("bird",)


@pytest.mark.parametrize(
    ("trained", "tested"),
    [
        ("aeroplane", "airplane"), ("diningtable", "dining table"), ("motorbike", "motorcycle"), ("sofa", "couch"),
        ("tvmonitor", "tv"), ("pottedplant", "potted plant"), ("Cat", "cat"), ("stop_sign", "stop sign"),
    ],
)  # fmt: skip
def test_across_data_sets_classes_are_compared_by_name(trained: str, tested: str) -> None:
    regime = Regime(dataset="pascal5i", fold=2, classes={200: trained})
    assert exposure(regime, "coco20i", {1: tested}, 0).state == "contaminated"
    assert exposure(regime, "coco20i", {200: "zebra"}, 0).state == "clean"  # an id means nothing elsewhere


def test_a_fold_alone_tells_of_its_own_data_set_only() -> None:
    regime = Regime(source="authors", dataset="coco20i", fold=1)
    assert exposure(regime, "coco20i", {1: "person"}, 1).state == "clean"
    assert exposure(regime, "coco20i", {1: "person"}, 0).classes == ("person",)
    assert exposure(regime, "pascal5i", VOC0, 1).state == "unknown"


def test_without_a_data_set_another_fold_is_contaminated_and_the_same_fold_is_not_known_to_be_clean() -> None:
    regime = Regime(source="authors", fold=0)
    assert exposure(regime, "pascal5i", VOC1, 1).state == "contaminated"
    assert exposure(regime, "pascal5i", VOC0, 0).state == "unknown"
    assert exposure(Regime(), "pascal5i", VOC0, 0).state == "unknown"


def test_own_data_sets_are_judged_by_their_names_too() -> None:
    regime = Regime(source="fssbench", dataset="weeds", classes={1: "maize", 2: "thistle"})
    assert exposure(regime, "weeds", {3: "dock"}, 0).state == "clean"
    assert exposure(regime, "other fields", {1: "Thistle"}, 0).classes == ("Thistle",)


def test_what_is_told_of_an_authors_checkpoint_becomes_its_regime() -> None:
    regime = authors_regime("pascal5i", 3, "SBD", "kept", "novel", "see issue 4")
    assert regime.classes is not None
    assert set(regime.classes.values()).isdisjoint({"pottedplant", "sheep", "sofa", "train", "tvmonitor"})
    assert regime.selection == "the tested classes"
    with pytest.raises(UsageError, match="--novel-images: Input should be 'dropped', 'masked' or 'kept', found 'gone'"):
        authors_regime("pascal5i", 3, novel_images="gone")


def test_a_list_digest_is_of_the_set_of_images() -> None:
    assert list_digest(["b", "a"]) == list_digest(["a", "b"]) != list_digest(["ab"])


def test_the_rule_needs_no_torch() -> None:
    code = "import sys, fssbench.regime; sys.exit('torch' in sys.modules)"
    fresh([sys.executable, "-c", code])
