"""The site's tables as CSV files, fractions as in `fssbench report --format csv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fssbench.reports.board.paper import Paper
from fssbench.reports.entries.rankings import Bank, Board, Ranked
from fssbench.reports.entries.scores import Score
from fssbench.reports.formats.plain import to_csv


def ranking_csv(bank: Bank, board: Board, papers: Mapping[str, Paper | None]) -> str:
    """A board: rank, names, scores with bounds, the paper's number, device and time."""
    return to_csv([_row(bank, entry, papers[entry.slug]) for entry in board.entries])


def classes_csv(board: Board) -> str:
    """IoU of every class by every entry of a board, a row each."""
    rows = [
        {"method": entry.title, "backbone": entry.run.backbone, "record": entry.run.id, "fold": one.fold,
         "class": one.name, "episodes": one.episodes, **_score("iou", one.score)}
        for entry in board.entries
        for one in entry.scores.classes
    ]  # fmt: skip
    return to_csv(rows)


def _row(bank: Bank, entry: Ranked, paper: Paper | None) -> dict[str, Any]:
    low, high = entry.ranks or (None, None)
    row: dict[str, Any] = {
        "rank": entry.rank, "rank_low": low, "rank_high": high, "method": entry.title, "backbone": entry.run.backbone,
        "supervision": entry.supervision, "weights": entry.trained, "code": entry.origin,
        **_score("miou", entry.scores.miou), **_score("fb_iou", entry.scores.fb_iou),
    }  # fmt: skip
    for fold in bank.fold_numbers:
        row |= _score(f"fold{fold}", entry.scores.folds.get(fold) or Score(None))
    return row | {
        "paper": paper.value if paper else None,
        "paper_verified": paper.verified if paper else None,
        "trainings": entry.scores.trainings,
        "device": entry.run.environment.device,
        "precision": entry.run.environment.precision,
        "parameters": entry.parameters.total if entry.parameters else None,
        "parameters_trained": entry.parameters.trained if entry.parameters else None,
        "milliseconds_an_episode": None if entry.milliseconds is None else round(entry.milliseconds, 3),
        "date": entry.run.created,
        "record": entry.run.id,
    }


def _score(name: str, score: Score) -> dict[str, float | None]:
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
