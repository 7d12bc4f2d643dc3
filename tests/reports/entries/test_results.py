"""Which records make a result, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fssbench.errors import RecordError
from fssbench.protocols import find_protocol
from fssbench.records import Record
from fssbench.regime import Regime
from fssbench.reports.entries.lens import limits, through
from fssbench.reports.entries.lines import lines_of
from fssbench.reports.entries.results import episodes_of, load_results
from fssbench.reports.tables.layouts import fold_tables

Make = Callable[..., Record]
HALVES = {0: 0.2, 1: 0.4, 2: 0.5, 3: 0.9}


def test_records_that_hold_different_folds_of_one_configuration_are_merged(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "b", folds=[2, 3], fold_iou=HALVES)
    make_record(tmp_path / "a", folds=[0, 1], fold_iou=HALVES)
    (result,) = load_results(tmp_path)
    assert result.summary.miou == pytest.approx(0.5)
    assert len(episodes_of(result)) == 80
    assert [source.path.name for source in result.sources] == ["a", "b"]


def test_a_missing_fold_leaves_no_mean(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", folds=[0, 1, 3], fold_iou=HALVES)
    (result,) = load_results(tmp_path)
    assert result.summary.miou is None
    assert result.summary.folds["1"].miou == pytest.approx(0.4)


def test_a_record_copied_elsewhere_counts_once(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", fold_iou=HALVES)
    make_record(tmp_path / "copy", fold_iou=HALVES)
    (result,) = load_results(tmp_path)
    assert len(result.sources) == 1 and result.summary.episodes == 80


def test_other_checkpoints_of_one_configuration_are_other_results(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "first", weights="checkpoint", fold_iou=HALVES)
    other = make_record(tmp_path / "second", weights="checkpoint", fold_iou=HALVES | {2: 0.6})
    weights = {fold: entry.model_copy(update={"sha256": f"{fold}" * 64}) for fold, entry in other.run.weights.items()}
    run = other.run.model_copy(update={"weights": weights})
    (tmp_path / "second" / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    found = load_results(tmp_path)
    assert len(found) == 2
    assert len({result.setting.checkpoint for result in found}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"bank_seed": 9},
        {"protocol": find_protocol("pfenet")},
        {"way": 2},
        {"dataset": "pascal5i"},
        {"bank_episodes": 50},
    ],
)
def test_what_was_measured_otherwise_is_never_in_the_same_place(
    make_record: Make, tmp_path: Path, change: dict[str, object]
) -> None:
    make_record(tmp_path / "a")
    make_record(tmp_path / "b", **change)
    first, second = load_results(tmp_path)
    assert first.place != second.place


def test_seeds_of_one_configuration_stand_in_one_line(make_record: Make, tmp_path: Path) -> None:
    for seed, iou in enumerate((0.4, 0.5, 0.6)):
        make_record(tmp_path / str(seed), seed=seed, fold_iou=dict.fromkeys(range(4), iou))
    (line,) = lines_of(load_results(tmp_path))
    scores = line.scores(1)
    assert scores is not None
    assert (scores.mean, scores.training_std, scores.trainings) == (pytest.approx(0.5), pytest.approx(0.1), 3)


def test_a_folder_without_records_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="fssbench run"):
        load_results(tmp_path)


def test_a_summary_that_is_none_is_refused_by_file_and_field(make_record: Make, tmp_path: Path) -> None:
    record = make_record(tmp_path / "a")
    broken = record.run.model_copy(update={"summary": record.run.summary | {"miou": "high"}})
    (tmp_path / "a" / "run.json").write_text(broken.model_dump_json(), encoding="utf-8")
    with pytest.raises(RecordError, match=r"run\.json: summary\.miou"):
        load_results(tmp_path)


def test_a_lens_scores_the_same_counts_by_other_rules(make_record: Make, tmp_path: Path) -> None:
    record = make_record(tmp_path / "a", folds=[0], bank_folds=[0], classes_per_fold=1, episodes=1, fold_iou={0: 0.5})
    (result,) = load_results(tmp_path)
    ignored_fg = int(record.episodes["ignored_fg"].iloc[0])
    seen = through(result, find_protocol("pmms"))
    assert result.summary.miou == pytest.approx(0.5)
    assert seen.summary.miou == pytest.approx(500 / (1000 + ignored_fg))  # PMMs counts 255 as background
    assert seen.place.lens == "pmms"


def test_a_lens_gives_no_mean_either_where_a_fold_is_missing(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", folds=[0, 1, 3], fold_iou=HALVES)
    (result,) = load_results(tmp_path)
    assert through(result, find_protocol("pfenet")).summary.miou is None


def test_a_lens_says_what_it_cannot_change(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    (result,) = load_results(tmp_path)
    text = " ".join(limits(result, find_protocol("hsnet")))
    assert "scored at original size, not at 400x400 px" in text
    assert "other episodes" in text and "seeds" not in text  # both have seed 0
    own = " ".join(limits(result, find_protocol("fssbench")))
    assert "Not possible" not in own


@pytest.mark.parametrize(
    ("weights", "regime", "label"),
    [
        ("checkpoint", Regime(source="fssbench"), "trained"),
        ("checkpoint", Regime(source="authors"), "authors' checkpoint"),
        ("external", Regime(), "predictions from elsewhere"),
        ("imagenet", None, "untrained (ImageNet backbone)"),
        ("random", None, "untrained (random weights)"),
    ],
)
def test_where_weights_come_from_is_said(
    make_record: Make, tmp_path: Path, weights: str, regime: Regime | None, label: str
) -> None:
    make_record(tmp_path / "a", weights=weights, regime=regime)
    (table,) = fold_tables(load_results(tmp_path))
    assert table.rows[0].cells[2].text == label


def test_what_a_checkpoint_was_selected_on_is_said(make_record: Make, tmp_path: Path) -> None:
    regime = Regime(source="authors", image_list="train", selected_on="novel")
    make_record(tmp_path / "a", title="PFENet", weights="checkpoint", regime=regime)
    (table,) = fold_tables(load_results(tmp_path))
    assert "Checkpoints of PFENet were selected on: the tested classes." in table.notes


def test_a_training_without_novel_images_is_told_from_one_with_them(make_record: Make, tmp_path: Path) -> None:
    for title, filtered in (("BAM", "dropped"), ("PANet", "kept"), ("HDMNet", "dropped"), ("SSP", None)):
        regime = Regime(source="authors", novel_images=filtered)
        make_record(tmp_path / title, title=title, weights="checkpoint", regime=regime)
    (table,) = fold_tables(load_results(tmp_path))
    (note,) = (note for note in table.notes if note.startswith("Training images that show held-out classes: "))
    assert note.endswith(": left out by BAM and HDMNet; used, those classes being background, by PANet.")
    (alone,) = fold_tables(load_results(tmp_path / "SSP"))
    assert not any("held-out" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"our_reading": True}, "PANet (our reading)"),
        ({"annotation": "box"}, "PANet (box)"),
        ({"supervision": "image label"}, "PANet (image label)"),
        ({}, "PANet"),
    ],
)
def test_what_a_reader_must_not_overlook_is_in_the_name(
    make_record: Make, tmp_path: Path, changes: dict[str, object], label: str
) -> None:
    make_record(tmp_path / "a", title="PANet", **changes)
    assert fold_tables(load_results(tmp_path))[0].rows[0].cells[0].text == label


def test_overlapping_folders_hold_a_record_once_and_folds_of_two_merge(make_record: Make, tmp_path: Path) -> None:
    iou = dict.fromkeys(range(4), 0.5)
    make_record(tmp_path / "one" / "a", folds=[0, 1], fold_iou=iou)
    make_record(tmp_path / "two" / "b", folds=[2, 3], fold_iou=iou)
    (result,) = load_results(tmp_path, tmp_path / "one", tmp_path / "two" / ".." / "two")
    assert result.repeats == () and result.summary.miou == pytest.approx(0.5)


def test_an_unreadable_record_is_skipped_with_a_warning(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{")
    told: list[str] = []
    assert len(load_results(tmp_path, skipped=told.append)) == 1
    assert len(told) == 1 and "run.json" in told[0]
