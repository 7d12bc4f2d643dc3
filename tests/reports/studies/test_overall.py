"""Means over data sets and shots, and the page that compares two results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fssbench.records import Record
from fssbench.reports.board.build import build_site
from fssbench.reports.board.pairs import KEY, episodes_of, ious_script
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import load_results
from fssbench.reports.studies.comparison import compare
from fssbench.reports.studies.overall import overall
from fssbench.scoring.pixels import iou

Make = Callable[..., Record]


def measured(make: Make, folder: Path, *, missing: bool = False) -> dict[tuple[str, str, int], float]:
    """Two methods on PASCAL at 1 and 5 shots and on COCO at 1 shot; mIoU of each."""
    found = {}
    for method, miou in (("panet", 0.3), ("hsnet", 0.6)):
        for dataset, shot in (("pascal5i", 1), ("pascal5i", 5), ("coco20i", 1)):
            if missing and (method, dataset) == ("hsnet", "coco20i"):
                continue
            record = make(folder / f"{method}-{dataset}-{shot}", method, dataset=dataset, shot=shot, miou=miou,
                          bank_seed=len(dataset), episodes=30)  # fmt: skip
            found[method, dataset, shot] = record.run.summary["miou"]
    return found


def test_every_data_set_counts_once_and_its_shots_alike(make_record: Make, tmp_path: Path) -> None:
    values = measured(make_record, tmp_path)
    (table,) = overall(collect(load_results(tmp_path)))
    assert [line.entry.title.lower() for line in table.lines] == ["hsnet", "panet"]
    for line in table.lines:
        name = line.entry.run.method.name
        by_hand = (
            values[name, "pascal5i", 1] / 4 + values[name, "pascal5i", 5] / 4 + values[name, "coco20i", 1] / 2
        )  # fmt: skip
        assert line.mean.value == pytest.approx(by_hand)
        assert line.mean.low is not None and line.mean.high is not None
        assert line.mean.low < by_hand < line.mean.high
    assert [(line.rank, line.ranks) for line in table.lines] == [(1, (1, 1)), (2, (2, 2))]


def test_a_method_that_lacks_a_table_has_no_mean_and_a_table_of_one_method_is_left_out(
    make_record: Make, tmp_path: Path
) -> None:
    measured(make_record, tmp_path, missing=True)  # COCO holds one method now
    (table,) = overall(collect(load_results(tmp_path)))
    assert [(bank.dataset, board.shot) for bank, board in table.boards] == [("pascal5i", 1), ("pascal5i", 5)]
    make_record(tmp_path / "x", "canet", dataset="pascal5i", shot=1, miou=0.9, bank_seed=8, episodes=30)
    (table,) = overall(collect(load_results(tmp_path)))
    assert [(line.entry.run.method.name, line.rank) for line in table.lines] == [
        ("hsnet", 1), ("panet", 2), ("canet", None),
    ]  # fmt: skip


def test_the_page_of_two_results_has_their_episodes_and_the_tests_of_compare(make_record: Make, tmp_path: Path) -> None:
    a = make_record(tmp_path / "r" / "a", "panet", miou=0.3, episodes=30)
    make_record(tmp_path / "r" / "b", "hsnet", miou=0.6, episodes=30, seed=2)
    results = load_results(tmp_path / "r")
    (bank,) = collect(results)
    (board,) = bank.boards
    episodes = episodes_of(board)
    by_name = {entry.run.method.name: entry for entry in board.entries}
    said = json.loads(ious_script(by_name["panet"], episodes).split(" = ", 1)[1].rstrip(";\n"))
    frame = a.episodes[a.episodes["class_id"] != 0].sort_values(KEY, ignore_index=True)
    wanted = [round(1000 * float(value)) for value in iou(frame[["tp", "fp", "fn"]].to_numpy())]
    assert said["ious"] == pytest.approx(wanted, abs=1)  # float32, then thousandths
    (pair,) = compare(results).pairs
    assert pair.overall_p < 0.05
    assert (by_name["hsnet"].beats, by_name["panet"].beats) == ({by_name["panet"].slug}, set())
    build_site(results, tmp_path / "site")
    page = next((tmp_path / "site" / "boards").glob("*-pair.html")).read_text()
    assert all(f'<option value="{entry.slug}">' in page for entry in board.entries)
