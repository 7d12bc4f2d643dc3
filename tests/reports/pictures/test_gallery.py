"""Galleries: which episodes are shown, and that the pictures show them as they are."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fssbench
from PIL import Image
from synthetic_records import shifted_record
from toy_data import make_bank

from fssbench.audit.bank import find_banks
from fssbench.banks.bank import open_bank
from fssbench.errors import RecordError
from fssbench.records import COLUMNS
from fssbench.reports.board.build import build_site
from fssbench.reports.entries.results import load_results
from fssbench.reports.pictures.gallery import pick, site_gallery, write_gallery
from fssbench.reports.pictures.strips import judge, strip
from fssbench.show import TILE

Make = Callable[..., Any]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return make_bank(tmp_path / "bank.h5", episodes=4, shots=2)


@pytest.fixture
def results(bank: Path, tmp_path: Path) -> Path:
    return shifted_record(bank, tmp_path / "results").parent


def rows_of(percent: Sequence[int], queries: Sequence[str]) -> pd.DataFrame:
    rows = [
        [0, 0, episode, episode, 1, 1, query, "s", value, 100 - value, 0, 900, 0, 0]
        for episode, (value, query) in enumerate(zip(percent, queries, strict=True))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_best_median_and_worst_are_picked_by_iou() -> None:
    found = pick(rows_of([50, 10, 90, 30, 70], list("abcde")), 1)
    assert {name: [one.episode for one in chosen] for name, chosen in found.items()} == {
        "best": [2],
        "median": [0],
        "worst": [1],
    }


def test_a_query_is_shown_once_in_a_row_of_pictures() -> None:
    found = pick(rows_of([90, 80, 70, 60], ["a", "a", "a", "b"]), 2)
    assert [one.episode for one in found["best"]] == [0, 3]
    assert [one.episode for one in found["worst"]] == [3, 2]


def test_an_episode_of_several_ways_counts_with_their_mean() -> None:
    rows = rows_of([80, 20, 60, 60], ["a", "a", "b", "b"])
    rows["episode"], rows["way"], rows["class_id"] = [0, 0, 1, 1], [1, 2, 1, 2], [1, 2, 1, 2]
    found = pick(rows, 1)
    assert (found["best"][0].episode, found["best"][0].iou) == (1, 0.6)
    assert (found["worst"][0].iou, found["worst"][0].classes) == (0.5, (1, 2))


def test_a_prediction_is_judged_pixel_by_pixel() -> None:
    prediction = np.array([[1, 1, 0, 0, 1]], np.uint8)
    truth = np.array([[1, 0, 1, 0, 255]], np.uint8)
    assert judge(prediction, truth).tolist() == [[1, 2, 3, 0, 255]]


def test_a_strip_shows_the_supports_the_truth_and_the_judged_prediction(bank: Path, results: Path) -> None:
    (result,) = load_results(results)
    with open_bank(bank) as opened:
        episodes = opened.episodes(0)
        truth = opened.masks.truth(int(episodes.query[0]), episodes.classes[0].tolist())
        perfect = np.asarray(strip(opened, result.run, 0, 0, (truth == 1).astype(np.uint8)))
        empty = np.asarray(strip(opened, result.run, 0, 0, np.zeros_like(truth)))
        sizes = opened.image_sizes[[*episodes.support[0].ravel(), episodes.query[0]]]
    *supports, width = [round(int(w) * TILE / int(h)) for h, w in sizes]
    assert perfect.shape[1] == pytest.approx(sum(supports) + 2 * width, abs=20)  # truth and prediction, three gaps
    assert np.array_equal(perfect[:, : sum(supports) + width], empty[:, : sum(supports) + width])
    missed = np.abs(perfect[:TILE].astype(int) - empty[:TILE]).max(-1) > 60  # red against yellow
    share = missed[:, -width:].mean() / (truth == 1).mean()
    assert share == pytest.approx(1.0, abs=0.1)


def test_a_prediction_of_another_size_is_shown_at_the_size_of_the_query(bank: Path, results: Path) -> None:
    (result,) = load_results(results)
    with open_bank(bank) as opened:
        whole = strip(opened, result.run, 0, 0, np.ones((48, 64), np.uint8))
        small = strip(opened, result.run, 0, 0, np.ones((24, 24), np.uint8))
    assert np.array_equal(np.asarray(whole), np.asarray(small))


def test_sheets_are_written_for_each_kind_and_are_the_same_every_time(
    bank: Path, results: Path, tmp_path: Path
) -> None:
    (result,) = load_results(results)
    banks = find_banks([bank])
    first = write_gallery(result, banks, tmp_path / "one", 2)
    second = write_gallery(result, banks, tmp_path / "two", 2)
    assert [path.stem.rsplit("-", 1)[1] for path in first] == ["best", "median", "worst"]
    assert [_sha(path) for path in first] == [_sha(path) for path in second]
    with Image.open(first[0]) as image:
        assert image.size[1] > 2 * TILE


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_site_shows_the_pictures_and_says_what_they_show(bank: Path, results: Path, tmp_path: Path) -> None:
    build_site(load_results(results), tmp_path / "site", gallery=site_gallery(find_banks([bank])), with_intervals=False)
    home = tmp_path / "site" / "records" / "shifted"
    page = (home / "index.html").read_text()
    pictures = sorted(path.name for path in home.glob("*.jpg"))
    assert len(pictures) == 12
    assert all(f'src="{name}"' in page for name in pictures)
    assert page.count('alt="Supports, truth and prediction of ') == 12


def test_a_site_without_masks_says_how_to_get_pictures(results: Path, bank: Path, tmp_path: Path) -> None:
    (results / "shifted" / "predictions.h5").unlink()
    build_site(load_results(results), tmp_path / "site", gallery=site_gallery(find_banks([bank])), with_intervals=False)
    page = (tmp_path / "site" / "records" / "shifted" / "index.html").read_text()
    assert "--save-predictions" in page
    assert "<img" not in page


def test_missing_masks_or_bank_are_named_with_the_way_out(bank: Path, results: Path, tmp_path: Path) -> None:
    (result,) = load_results(results)
    other = make_bank(tmp_path / "other.h5", episodes=6)
    with pytest.raises(RecordError, match="Name the bank that the run used"):
        write_gallery(result, find_banks([other]), tmp_path / "out", 1)
    (results / "shifted" / "predictions.h5").unlink()
    with pytest.raises(RecordError, match="--save-predictions"):
        write_gallery(result, find_banks([bank]), tmp_path / "out", 1)


def test_the_command_prints_what_it_wrote_and_overwrites_nothing(bank: Path, results: Path, tmp_path: Path) -> None:
    command = ["gallery", str(results), "--bank", str(bank), "--out", str(tmp_path / "out"), "--count", "1"]
    assert all(Path(line).is_file() for line in fssbench(*command).out.split())
    fssbench(*command, status=2)


def test_a_record_without_masks_keeps_no_other_from_being_drawn(
    bank: Path, results: Path, tmp_path: Path, make_record: Make
) -> None:
    (record,) = results.glob("*/run.json")
    other = results / "scored"
    shutil.copytree(record.parent, other, ignore=shutil.ignore_patterns("predictions.h5"))
    run = json.loads(record.read_text())
    run |= {"id": "scored", "method": run["method"] | {"name": "mine", "title": "Mine"}}
    for entry in run["weights"].values():
        entry |= {"kind": "external", "regime": None, "path": None}
    (other / "run.json").write_text(json.dumps(run))
    printed = fssbench("gallery", results, "--bank", bank, "--out", tmp_path / "out", "--count", "1")
    assert len(printed.out.split()) == 3
    assert "skipped" in printed.err and "the HDF5 file that was scored" in printed.err.replace("\n", " ")
