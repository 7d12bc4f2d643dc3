"""Our order of methods against the papers': the numbers, who takes part, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench

from fssbench.errors import RecordError, UsageError
from fssbench.regime import Regime
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.registry import paper_scores
from fssbench.reports.studies.agreement import agreement

# In the papers' order on PASCAL-5i at 1 shot, best first; the lists below give each its mIoU here.
ORDER = ("hsnet", "pfenet", "rpmms", "canet", "panet")
TRAINED = Regime(source="fssbench", seed=0)


def records(root: Path, mious: list[float], make_record, **options) -> Path:  # type: ignore[no-untyped-def]
    for number, (method, miou) in enumerate(zip(ORDER, mious, strict=True)):
        values = {"weights": "checkpoint", "regime": TRAINED, "seed": number} | options
        make_record(root / method, method, miou=miou, **values)
    return root


def test_the_order_above_is_the_papers() -> None:
    means = [paper_scores(name, "pascal5i", 1, 1) for name in ORDER]
    first = [next(s.miou.middle for s in found.values() if s.miou) for found in means]
    assert first == sorted(first, reverse=True)


@pytest.mark.parametrize(
    ("mious", "expected"),
    [([0.7, 0.6, 0.5, 0.4, 0.3], 1.0), ([0.3, 0.4, 0.5, 0.6, 0.7], -1.0), ([0.6, 0.7, 0.5, 0.4, 0.3], 0.9)],
)  # one swap of neighbours among five: 1 - 6 * 2 / (5 * 24)
def test_the_correlation_is_that_of_the_ranks(mious: list[float], expected: float, tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    found = agreement(load_results(records(tmp_path, mious, make_record, episodes=60)))
    assert found.spearman == pytest.approx(expected)
    assert found.low <= found.spearman <= found.high
    assert [standing.our_rank for standing in found.standings] == [1, 2, 3, 4, 5]


def test_what_images_cannot_tell_apart_makes_the_interval_wide(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    apart = agreement(load_results(records(tmp_path / "a", [0.8, 0.65, 0.5, 0.35, 0.2], make_record)))
    close = agreement(load_results(records(tmp_path / "b", [0.504, 0.503, 0.502, 0.501, 0.5], make_record)))
    assert (apart.low, apart.high) == pytest.approx((1, 1))
    assert close.high - close.low > 0.5


@pytest.mark.parametrize(
    ("reversed_of_200", "low", "high"),
    [(4, 1.0, 1.0), (6, -1.0, 1.0), (194, -1.0, 1.0), (196, -1.0, -1.0)],
)
def test_the_interval_leaves_out_a_fortieth_of_the_draws_at_each_end(  # type: ignore[no-untyped-def]
    reversed_of_200: int, low: float, high: float, tmp_path: Path, make_record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws in the papers' order (a correlation of 1) and in its opposite (-1)."""
    mious = [0.7, 0.6, 0.5, 0.4, 0.3]
    signs = np.where(np.arange(200) < reversed_of_200, -1, 1)
    numbers = {name: (value, value * signs) for name, value in zip(ORDER, mious, strict=True)}
    monkeypatch.setattr("fssbench.reports.studies.agreement._means", lambda entry: numbers[entry.first.setting.method])
    found = agreement(load_results(records(tmp_path, mious, make_record, episodes=1)))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_only_what_is_trained_as_in_the_papers_takes_part(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    records(tmp_path, [0.7, 0.6, 0.5, 0.4, 0.3], make_record)
    make_record(tmp_path / "untrained", "sgone", miou=0.9)
    make_record(tmp_path / "own", "mine", title="Mine", miou=0.9, weights="checkpoint", regime=TRAINED)
    found = agreement(load_results(tmp_path))
    assert sorted(standing.name for standing in found.standings) == sorted(ORDER)
    assert found.left_out == ("Mine",)


def test_few_methods_and_other_episodes_are_refused(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    make_record(tmp_path / "a" / "panet", weights="checkpoint", regime=TRAINED)
    with pytest.raises(UsageError, match="expected at least 4 methods"):
        agreement(load_results(tmp_path / "a"))
    records(tmp_path / "b", [0.7, 0.6, 0.5, 0.4, 0.3], make_record)
    make_record(tmp_path / "b" / "panet", weights="checkpoint", regime=TRAINED, bank_seed=1)
    with pytest.raises(RecordError, match="not measured on the same episodes"):
        agreement(load_results(tmp_path / "b"))


def test_the_command_prints_both_orders_and_the_correlation(  # type: ignore[no-untyped-def]
    tmp_path: Path, make_record
) -> None:
    records(tmp_path, [0.6, 0.7, 0.5, 0.4, 0.3], make_record)

    def printed(*options: str) -> str:
        return fssbench("agreement", tmp_path, *options).out

    text = printed()
    assert "Spearman's rank correlation: 0.90" in text
    assert "| Method" in text and "papers, PASCAL-5i" in text
    (one,) = json.loads(printed("--json"))["agreement"]
    assert one["spearman"] == pytest.approx(0.9) and one["shot"] == 1


def test_banks_with_too_few_methods_keep_no_other_from_being_printed(tmp_path: Path, make_record) -> None:  # type: ignore[no-untyped-def]
    records(tmp_path / "whole", [0.6, 0.7, 0.5, 0.4, 0.3], make_record)
    for number, method in enumerate(("panet", "canet")):
        make_record(tmp_path / method, method, weights="checkpoint", regime=TRAINED, seed=number, dataset="coco20i")
    done = fssbench("agreement", tmp_path)
    assert done.out.count("our order and the papers'") == 1
    assert "skipped: COCO-20i, 1-way, protocol fssbench, 1-shot: expected at least 4 methods" in done.said
