"""The site's tables as CSV files, fractions as in `fssbench report --format csv`."""

from __future__ import annotations

from typing import Any

from fssbench.reports.board.entries import Bank, Board, Entry
from fssbench.reports.board.scores import Score
from fssbench.reports.tables.data import csv_of


def ranking_csv(bank: Bank, board: Board) -> str:
    """A board: rank, names, scores with bounds, the paper's number, device and time."""
    return csv_of([_row(bank, entry) for entry in board.entries])


def classes_csv(board: Board) -> str:
    """IoU of every class by every entry of a board, a row each."""
    rows = [
        {"method": entry.title, "backbone": entry.run.backbone, "record": entry.run.id, "fold": one.fold,
         "class": one.name, "episodes": one.episodes, **_score("iou", one.score)}
        for entry in board.entries
        for one in entry.scores.classes
    ]  # fmt: skip
    return csv_of(rows)


def _row(bank: Bank, entry: Entry) -> dict[str, Any]:
    low, high = entry.ranks or (None, None)
    row: dict[str, Any] = {
        "rank": entry.rank, "rank_low": low, "rank_high": high, "method": entry.title, "backbone": entry.run.backbone,
        "supervision": entry.supervision, "weights": entry.trained, "code": entry.origin,
        **_score("miou", entry.scores.miou), **_score("fb_iou", entry.scores.fb_iou),
    }  # fmt: skip
    for fold in bank.fold_numbers:
        row |= _score(f"fold{fold}", entry.scores.folds.get(fold) or Score(None))
    return row | {
        "paper": entry.paper.value if entry.paper else None,
        "paper_verified": entry.paper.verified if entry.paper else None,
        "trainings": entry.scores.trainings,
        "device": entry.run.environment.device,
        "precision": entry.run.environment.precision,
        "seconds_with_jobs_that_shared_the_run": entry.seconds,
        "date": entry.run.created,
        "record": entry.run.id,
    }


def _score(name: str, score: Score) -> dict[str, float | None]:
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
