"""Whatever takes long hands its items to a progress bar, all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from synthetic_records import make_record

from fssbench.regime import Regime
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import Result, load_results
from fssbench.reports.pictures.plots import draw_all
from fssbench.reports.studies.agreement import agreement
from fssbench.reports.studies.comparison import compare
from fssbench.reports.studies.robustness import robustness, suite_lines
from fssbench.reports.tables.layouts import View, fold_tables

T = TypeVar("T")
METHODS = ("hsnet", "pfenet", "rpmms", "canet")


class Bar:
    """Counts what it hands out."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, items: Sequence[T], what: str, /) -> Iterable[T]:
        def counted() -> Iterator[T]:
            for item in items:
                yield item
                self.done.append(what)

        return counted()


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    """Four trained methods on one bank of a suite's data set, one of them under worse masks too."""
    trained = {"weights": "checkpoint", "regime": Regime(source="fssbench", seed=0), "dataset": "fss1000"}
    for number, name in enumerate(METHODS):
        make_record(tmp_path / name, name, seed=number, episodes=20, **trained)
    make_record(tmp_path / "worse", METHODS[0], annotation="eroded-3", seed=0, episodes=20, **trained)
    return load_results(tmp_path)


def test_measuring_and_drawing_are_counted_to_the_end(results: list[Result], tmp_path: Path) -> None:
    clean = [result for result in results if result.setting.annotation == "mask"]
    bars = [Bar() for _ in range(7)]
    agreement(clean, "pascal5i", bars[0])
    compare(clean, track=bars[1])
    robustness(results, bars[2])
    suite_lines("cross-domain", clean, bars[3])
    fold_tables(clean, View(intervals=True, track=bars[4]))
    fold_tables(clean, View(track=bars[5]))
    draw_all(collect(clean, with_intervals=False), tmp_path, bars[6])
    pairs = ["measuring"] * 4 + ["comparing"] * 6
    drawn = ["drawing"] * 4  # three of the board, one of its bank
    assert [bar.done for bar in bars] == [["measuring"] * 4, pairs, ["measuring"], ["measuring"] * 4,
                                          ["measuring"] * 4, [], drawn]  # fmt: skip
