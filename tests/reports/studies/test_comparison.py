"""Comparing results: what is refused, what is found, how it is said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import fssbench

from fssbench.errors import RecordError, UsageError
from fssbench.protocols import FSSBENCH
from fssbench.records import Record
from fssbench.reports.entries.lines import entries_of
from fssbench.reports.entries.results import load_results
from fssbench.reports.formats.markdown import to_markdown
from fssbench.reports.render import render_tables
from fssbench.reports.studies.comparison import compare, comparison_data, sets_to_compare
from fssbench.reports.tables.comparison import comparison_tables

Make = Callable[..., Record]


def test_results_on_other_episodes_are_refused_by_name(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    make_record(tmp_path / "b", bank_seed=1)
    with pytest.raises(RecordError, match="bank fingerprint differs"):
        compare(load_results(tmp_path))


def test_a_folder_with_several_banks_is_compared_bank_by_bank(make_record: Make, tmp_path: Path) -> None:
    for bank_seed in (0, 1):
        for method, miou in (("weak", 0.3), ("strong", 0.7)):
            make_record(tmp_path / f"{method}-{bank_seed}", method, miou=miou, bank_seed=bank_seed)
    make_record(tmp_path / "alone", "alone", bank_seed=2)
    done = fssbench("compare", tmp_path)
    assert "left out: 1 of 5 results" in done.err
    fingerprints = {source.run.bank.fingerprint for r in load_results(tmp_path) for source in r.sources}
    assert sum(f"bank {each[:12]}" in done.out for each in fingerprints) == 2
    assert done.out.count(": paired comparison") == 2 and "alone" not in done.out
    of = [each["fingerprint"] for each in json.loads(fssbench("compare", tmp_path, "--json").out)]
    assert len(set(of)) == 2 and set(of) < fingerprints


def test_a_baseline_is_looked_for_on_every_bank(make_record: Make, tmp_path: Path) -> None:
    for name, method, bank_seed in (("a", "one", 0), ("b", "two", 0), ("c", "two", 1), ("d", "three", 1)):
        make_record(tmp_path / name, method, bank_seed=bank_seed)
    done = fssbench("compare", tmp_path, "--against", "one")
    assert done.out.count(": paired comparison") == 1 and "skipped: unknown result 'one'" in done.said
    assert "unknown result 'none'" in fssbench("compare", tmp_path, "--against", "none", status=2).said


def test_one_result_is_nothing_to_compare(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a")
    with pytest.raises(UsageError, match="at least two"):
        compare(load_results(tmp_path))


def test_a_better_method_is_found_better_with_its_classes(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "weak", miou=0.3, episodes=200)
    make_record(tmp_path / "b", "strong", miou=0.7, seed=1, episodes=200)
    (pair,) = compare(load_results(tmp_path)).pairs
    assert pair.first.startswith("strong")
    assert pair.overall.difference == pytest.approx(0.4, abs=0.03)
    assert pair.overall.low > 0.3 and pair.overall_p < 1e-6
    assert pair.classes_won(1) == sorted(pair.classes) and pair.classes_won(-1) == []
    assert pair.effect.better > 0.9 and pair.effect.cohen_d > 1


def test_equal_methods_are_not_told_apart(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "one", seed=1, episodes=100)
    make_record(tmp_path / "b", "other", seed=2, episodes=100)
    found = compare(load_results(tmp_path))
    assert found.pairs[0].overall_p > 0.05
    assert "no significant difference" in render_tables("markdown", comparison_tables(found))


def test_p_values_are_corrected_for_the_number_of_pairs(make_record: Make, tmp_path: Path) -> None:
    for seed in range(3):
        make_record(tmp_path / str(seed), f"m{seed}", seed=seed, miou=0.4 + 0.01 * seed, episodes=60)
    pairs = compare(load_results(tmp_path)).pairs
    smallest = min(pairs, key=lambda pair: pair.overall.p_value)
    assert len(pairs) == 3
    assert smallest.overall_p == pytest.approx(min(1.0, 3 * smallest.overall.p_value))
    by_class = [(found.p_value, pair.class_p[c]) for pair in pairs for c, found in pair.classes.items()]
    plain, corrected = min(by_class)
    assert len(by_class) == 60 and corrected == pytest.approx(min(1.0, 60 * plain)) and plain < corrected


def test_intervals_exclude_0_just_where_the_corrected_p_value_is_below_5_percent(
    make_record: Make, tmp_path: Path
) -> None:
    for seed, miou in enumerate((0.30, 0.32, 0.34, 0.36, 0.38, 0.70)):
        make_record(tmp_path / str(seed), f"m{seed}", miou=miou, seed=seed, episodes=30)
    pairs = compare(load_results(tmp_path)).pairs
    means = [(pair.overall, pair.overall_p) for pair in pairs]
    classes = [(each, pair.class_p[c]) for pair in pairs for c, each in pair.classes.items()]
    for family in (means, classes):
        assert any(each.p_value < 0.05 <= p for each, p in family), "the correction must decide something"
        assert any(p < 0.05 for _, p in family)
        assert [each.low > 0 or each.high < 0 for each, _ in family] == [p < 0.05 for _, p in family]


@pytest.mark.parametrize(
    ("averaging", "folds", "said"),
    [
        ("folds", (0, 1), "mean over folds;"),
        ("folds", (0,), "mean over folds 0 only;"),
        ("classes", (0, 1), "mean over classes;"),
        ("classes", (0,), "mean over classes of folds 0 only;"),
    ],
)
def test_the_table_says_what_the_mean_is_over(
    averaging: str, folds: tuple[int, ...], said: str, make_record: Make, tmp_path: Path
) -> None:
    protocol = FSSBENCH.model_copy(update={"averaging": averaging})
    for seed, name in enumerate(("one", "other")):
        make_record(tmp_path / name, name, folds=folds, bank_folds=(0, 1), protocol=protocol, seed=seed, episodes=5)
    tables = comparison_tables(compare(load_results(tmp_path)))
    (lead,) = [table.lead[0] for table in tables if table.title.endswith("paired comparison")]
    assert said in lead


def test_only_shared_folds_are_compared_and_the_table_says_so(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "one", folds=[0, 1, 2], fold_iou={0: 0.5, 1: 0.5, 2: 0.1})
    make_record(tmp_path / "b", "other", folds=[0, 1, 3], fold_iou={0: 0.4, 1: 0.3, 3: 0.9})
    found = compare(load_results(tmp_path))
    assert found.folds == (0, 1)
    assert found.pairs[0].overall.difference == pytest.approx(0.15)
    assert "mean over folds 0 and 1 only" in render_tables("markdown", comparison_tables(found))


def test_shots_of_one_method_can_be_compared(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", shot=1, miou=0.3, episodes=60)
    make_record(tmp_path / "b", shot=5, miou=0.5, episodes=60)
    (pair,) = compare(load_results(tmp_path)).pairs
    assert pair.overall.difference == pytest.approx(-0.2, abs=0.05)


def test_the_most_different_episodes_are_listed_with_their_images(make_record: Make, tmp_path: Path) -> None:
    a = make_record(tmp_path / "a", "one", miou=0.3)
    make_record(tmp_path / "b", "other", miou=0.5, seed=4)
    (pair,) = compare(load_results(tmp_path), extremes=3).pairs
    assert len(pair.extremes) == 3
    worst = pair.extremes.iloc[0]
    row = a.episodes[(a.episodes["fold"] == worst["fold"]) & (a.episodes["episode"] == worst["episode"])].iloc[0]
    assert (worst["query"], worst["supports"], worst["class_id"]) == (row["query"], row["supports"], row["class_id"])
    assert pair.extremes["change"].abs().is_monotonic_decreasing


def test_the_comparison_repeats_and_is_plain_json(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "one", miou=0.3)
    make_record(tmp_path / "b", "other", miou=0.5, seed=4)
    one, two = (json.dumps(comparison_data(compare(load_results(tmp_path))), allow_nan=False) for _ in range(2))
    assert one == two
    assert {"first", "second", "mean", "classes", "effect", "episodes"} <= set(json.loads(one)["pairs"][0])


def test_csv_has_the_cells_as_printed_and_no_formula(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "one", title="=one", miou=0.3)
    make_record(tmp_path / "b", "other", miou=0.5, seed=4)
    found = compare(load_results(tmp_path))
    rows = list(csv.DictReader(io.StringIO(render_tables("csv", comparison_tables(found)))))
    (pair,) = [row for row in rows if row["table"].endswith("paired comparison")]
    assert pair["First"].startswith("'=one, ") and pair["Second"].startswith("other, ")
    assert float(pair["difference"].split(" [")[0]) == round(100 * found.pairs[0].overall.difference, 1)
    assert len(rows) == sum(len(table.rows) for table in comparison_tables(found))


@pytest.mark.parametrize("name", ["markdown", "latex", "html"])
def test_every_format_prints_every_table(name: str, make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "one", title="<b>one</b>")
    make_record(tmp_path / "b", "other", seed=4)
    text = render_tables(name, comparison_tables(compare(load_results(tmp_path))))
    assert "paired comparison" in text and "Largest differences" in text
    assert "<b>" not in text


def test_shots_are_compared_apart_and_trainings_together(make_record: Make, tmp_path: Path) -> None:
    for shot in (1, 5):
        for name in ("one", "two"):
            for seed in (1, 2):
                make_record(tmp_path / f"{name}{shot}{seed}", name, shot=shot, seed=seed, episodes=5)
    sets = sets_to_compare(load_results(tmp_path))
    assert [len(entries_of(each)) for each in sets] == [2, 2]
    assert all(len({result.shot for result in each}) == 1 for each in sets)
    found = compare(sets[0])
    assert len(found.pairs) == 1 and len(found.ranks) == 2


def test_a_baseline_is_compared_with_each_other_result(make_record: Make, tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "two", "three")):
        make_record(tmp_path / name, name, seed=seed, episodes=5)
    pairs = compare(load_results(tmp_path), against="base").pairs
    assert [pair.second.split(",")[0] for pair in pairs] == ["base", "base"]
    with pytest.raises(UsageError, match="unknown result 'bass'"):
        compare(load_results(tmp_path), against="bass")


def test_a_verdict_on_one_training_speaks_of_its_weights(make_record: Make, tmp_path: Path) -> None:
    from fssbench.reports.tables.comparison import comparison_tables

    make_record(tmp_path / "a", "weak", miou=0.3, episodes=60)
    make_record(tmp_path / "b", "strong", miou=0.7, weights="checkpoint", episodes=60, seed=1)
    told = to_markdown(comparison_tables(compare(load_results(tmp_path))))
    assert "The weights of strong" in told and "how much other trainings differ" in told
