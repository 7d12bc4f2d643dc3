"""Plots: the same records give the same bytes, and the lines show what they claim to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fssbench
from PIL import Image

from fssbench.records import COLUMNS
from fssbench.reports.entries.rankings import Bank, collect
from fssbench.reports.entries.results import load_results
from fssbench.reports.pictures.plots import (
    by_class,
    by_episode,
    by_size,
    draw_all,
    shots,
    size_curve,
)
from fssbench.reports.pictures.style import save, style

Make = Callable[..., Any]


def banks_of(results: Path, with_intervals: bool = False) -> tuple[Bank, ...]:
    return collect(load_results(results), with_intervals)


@pytest.fixture
def results(make_record: Make, tmp_path: Path) -> Path:
    for seed, name in enumerate(["$a^2_b$", "hsnet"]):
        for shot in (1, 5):
            make_record(
                tmp_path / "r" / f"{seed}-{shot}", name, shot=shot, seed=seed, miou=0.4 + 0.2 * seed, folds=[0, 1],
                bank_folds=[0, 1], classes_per_fold=2, episodes=10,
            )  # fmt: skip
    return tmp_path / "r"


def test_the_same_records_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    digests = []
    for folder in ("one", "two"):
        paths = draw_all(banks_of(results / "1-1"), tmp_path / folder)
        with style():
            figure = shots(banks_of(results)[0])
        assert figure is not None
        paths += save(figure, tmp_path / folder, "1way-5shot-shots")
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths})
    assert digests[0] == digests[1]
    kinds = {name.split("shot-")[-1].rsplit("-", 1)[-1] for name in digests[0]}
    assert kinds == {
        f"{kind}.{ending}" for kind in ("classes", "size", "episodes", "shots") for ending in ("png", "svg")
    }


def test_bars_stand_at_each_class_with_their_intervals(results: Path) -> None:
    (bank,) = banks_of(results, with_intervals=True)
    board = bank.boards[0]
    with style():
        figure = by_class(bank, board)
    assert figure is not None
    for axis, entry in zip(figure.axes, board.entries, strict=True):
        heights = [bar.get_height() for bar in axis.patches]
        assert heights == pytest.approx([100 * (c.score.value or 0) for c in entry.scores.classes])
        (whiskers,) = [c for c in axis.collections if len(c.get_paths()) == 4]
        ends = [path.vertices[:, 1].tolist() for path in whiskers.get_paths()]
        wanted = [[100 * (c.score.low or 0), 100 * (c.score.high or 0)] for c in entry.scores.classes]
        assert np.allclose(ends, wanted)


def test_the_curve_by_size_pools_episodes_of_similar_size() -> None:
    """Objects of 100 px are found, those of 400 px are missed by half: two bins at 10 and 40 per cent."""
    small = [[0, 0, e, e, 1, 1, f"q{e}", "s", 100, 0, 0, 900, 0, 0] for e in range(4)]
    large = [[0, 0, e, e, 1, 1, f"q{e}", "s", 200, 0, 200, 600, 50, 0] for e in range(4, 8)]
    curve = size_curve(pd.DataFrame(small + large, columns=COLUMNS), bins=2)
    assert curve is not None
    assert curve.size.tolist() == pytest.approx([0.1, 0.4])
    assert curve.value.tolist() == pytest.approx([1.0, 0.5])
    assert size_curve(pd.DataFrame(small, columns=COLUMNS), bins=4) is None


def test_the_spread_by_episode_counts_every_episode(results: Path) -> None:
    (bank,) = banks_of(results)
    with style():
        figure = by_episode(bank, bank.boards[0])
    assert figure is not None
    for axis in figure.axes:
        assert sum(bar.get_height() for bar in axis.patches) == pytest.approx(100)


def test_lines_over_shots_join_the_same_method_only(results: Path, make_record: Make) -> None:
    make_record(results / "alone", "alone", seed=5, folds=[0, 1], bank_folds=[0, 1], classes_per_fold=2, episodes=10)
    (bank,) = banks_of(results)
    with style():
        figure = shots(bank)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["hsnet untrained", "$a^2_b$ untrained"]
    assert figure.get_suptitle().endswith(", 1-way, resnet50")


def test_backbones_that_differ_stand_with_the_names(make_record: Make, tmp_path: Path) -> None:
    for seed, backbone in enumerate(("vgg16", "resnet50")):
        make_record(tmp_path / backbone, "panet", backbone=backbone, seed=seed, episodes=5)
    (bank,) = banks_of(tmp_path)
    with style():
        figure = by_episode(bank, bank.boards[0])
    assert figure is not None
    titles = {axis.get_title(loc="left") for axis in figure.axes}
    assert titles == {"panet vgg16 untrained", "panet resnet50 untrained"}
    assert figure.get_suptitle().endswith("1-shot")


def test_nothing_is_drawn_of_nothing(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", episodes=1, folds=[0], bank_folds=[0], classes_per_fold=1, seconds={})
    (bank,) = banks_of(tmp_path / "r")
    assert shots(bank) is None
    assert by_size(bank, bank.boards[0]) is None


def test_the_command_writes_pictures_and_overwrites_nothing(results: Path, tmp_path: Path) -> None:
    command = ["plot", str(results / "1-1"), "--out", str(tmp_path / "plots")]
    paths = [Path(line) for line in fssbench(*command).out.split()]
    assert len(paths) == 6
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 200
        else:
            assert path.read_text().rstrip().endswith("</svg>")
    fssbench(*command, status=2)


def test_plots_stand_in_the_order_asked_for(make_record: Make, tmp_path: Path) -> None:
    for name, miou in (("alpha", 0.3), ("beta", 0.6)):
        make_record(tmp_path / "r" / name, name, miou=miou)
    drawn = {}
    for order in ("mean", "name"):
        fssbench("plot", tmp_path / "r", "--sort", order, "--out", tmp_path / order)
        (path,) = (tmp_path / order).glob("*-classes.svg")
        drawn[order] = path.read_bytes()
    assert drawn["mean"] != drawn["name"]
    fssbench("plot", tmp_path / "r", "--sort", "colour", "--out", tmp_path / "x", status=2)


def test_plots_and_boards_show_the_mean_over_trainings_never_the_best(make_record: Make, tmp_path: Path) -> None:
    for shot in (1, 5):
        for seed, iou in enumerate((0.3, 0.4, 0.8)):
            make_record(tmp_path / f"{shot}-{seed}", shot=shot, seed=seed, fold_iou=dict.fromkeys(range(4), iou))
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    assert [len(board.entries) for board in bank.boards] == [1, 1]
    with style():
        figure = shots(bank)
    assert figure is not None
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert list(line.get_ydata()) == pytest.approx([50.0, 50.0])
