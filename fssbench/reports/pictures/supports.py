"""The best and the worst support of a query as pictures, one above the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fssbench.audit.bank import Reference
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.reports.pictures.gallery import Picked, bank_of, caption, draw, episode_scores, write_sheet
from fssbench.reports.studies.sensitivity import widest


def write_extremes(result: Result, banks: Mapping[str, Reference], folder: Path, count: int) -> Path:
    """The `count` queries whose supports differ most, each with its best and its worst support, as one PNG.

    Raises `RecordError` where the masks of the run or the images of its bank are not at hand.
    """
    bank = bank_of(result, banks)
    places = {(one.fold, one.episode): one for one in episode_scores(episodes_of(result))}
    chosen: list[tuple[str, Picked]] = []
    for extremes in widest(result, count):
        chosen.append(("best support", places[extremes.fold, extremes.best]))
        chosen.append(("worst support", places[extremes.fold, extremes.worst]))
    strips = draw(result, bank, [one for _, one in chosen])
    rows = [
        (f"{words}: IoU {100 * one.iou:.1f}   {caption(result, one)}", image)
        for (words, one), (_, image) in zip(chosen, strips, strict=True)
    ]
    return write_sheet(rows, result, folder, "supports")
