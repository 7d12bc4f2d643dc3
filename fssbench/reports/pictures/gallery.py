"""Galleries: the best, the median and the worst episodes of a result, with support, truth and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fssbench.audit.bank import Reference
from fssbench.banks.bank import Bank
from fssbench.errors import RecordError
from fssbench.files import atomic_path
from fssbench.predictions import FILE, open_predictions
from fssbench.reports.entries.rankings import Ranked, slug
from fssbench.reports.entries.results import Result, Source, episodes_of
from fssbench.reports.pictures.strips import stacked, strip
from fssbench.scoring.metrics import BACKGROUND_CLASS
from fssbench.scoring.pixels import iou

GROUPS = ("best", "median", "worst")


@dataclass(frozen=True)
class Picture:
    """One picture of a result's gallery on the site, lying beside its page."""

    file: str
    width: int
    height: int
    iou: float
    alt: str
    caption: str


Pictures = Sequence[tuple[str, Sequence[Picture]]]
DrawGallery = Callable[[Ranked, Path], Pictures]


@dataclass(frozen=True)
class Picked:
    """One episode: mean IoU over its ways, its query, and the classes it asks for."""

    fold: int
    episode: int
    iou: float
    query: str
    classes: tuple[int, ...]


def episode_scores(rows: pd.DataFrame) -> list[Picked]:
    """Every episode with its mean IoU over ways, best first; equal ones by fold and episode."""
    ways = rows[rows["class_id"] != BACKGROUND_CLASS]
    values = ways.assign(iou=np.nan_to_num(iou(ways[["tp", "fp", "fn"]].to_numpy())))
    groups = values.groupby(["fold", "run", "episode"], sort=False)
    first = groups.first()
    classes = groups["class_id"].agg(tuple)
    found = [
        Picked(int(fold), int(episode), float(mean), str(query), each)
        for (fold, _, episode), mean, query, each in zip(
            first.index, groups["iou"].mean(), first["query"], classes, strict=True
        )
    ]
    return sorted(found, key=lambda one: (-one.iou, one.fold, one.episode))


def pick(rows: pd.DataFrame, count: int) -> dict[str, list[Picked]]:
    """`count` episodes each of the best, those around the median, and the worst; every query at most once a group."""
    ranked = episode_scores(rows)
    median = float(np.median([one.iou for one in ranked])) if ranked else 0.0
    around = sorted(ranked, key=lambda one: (abs(one.iou - median), one.fold, one.episode))
    orders = {"best": ranked, "median": around, "worst": ranked[::-1]}
    return {name: _other_queries(order, count) for name, order in orders.items()}


def write_gallery(result: Result, banks: Mapping[str, Reference], folder: Path, count: int) -> list[Path]:
    """One sheet each of best, median and worst episodes, as PNG. Raises `RecordError` where pictures cannot be made."""
    bank = bank_of(result, banks)
    written = []
    for name, chosen in pick(episodes_of(result), count).items():
        rows = [
            (f"IoU {100 * one.iou:.1f}   {caption(result, one)}", image) for one, image in draw(result, bank, chosen)
        ]
        if rows:
            written.append(write_sheet(rows, result, folder, name))
    return written


def write_sheet(rows: Sequence[tuple[str, Image.Image]], result: Result, folder: Path, name: str) -> Path:
    """Strips with their text as one PNG, named after the result."""
    title = slug(result.setting.title, result.setting.backbone, f"{result.shot}shot", result.run.id[-8:], name)
    path = folder / f"{title}.png"
    with atomic_path(path) as temporary:
        stacked(rows).save(temporary, format="PNG")
    return path


def site_gallery(banks: Mapping[str, Reference], count: int = 4) -> DrawGallery:
    """What `build_site` calls for every entry: JPEGs beside its page, nothing where masks or images are missing."""

    def gallery(entry: Ranked, home: Path) -> Pictures:
        if not can_draw(entry.first, banks):
            return []
        bank = bank_of(entry.first, banks)
        return [
            (name.capitalize(), list(_pictures(entry.first, bank, name, chosen, home)))
            for name, chosen in pick(episodes_of(entry.first), count).items()
        ]

    return gallery


def can_draw(result: Result, banks: Mapping[str, Reference]) -> bool:
    """Whether the masks of the run and the images of its bank are at hand."""
    reference = banks.get(result.run.bank.fingerprint)
    return (
        reference is not None and reference.bank.has_images and all((s.path / FILE).is_file() for s in result.sources)
    )


def bank_of(result: Result, banks: Mapping[str, Reference]) -> Bank:
    """The bank with its images. Raises `RecordError` saying what is missing, the bank or the masks."""
    where, fingerprint = result.sources[0].path, result.run.bank.fingerprint
    reference = banks.get(fingerprint)
    if reference is None or not reference.bank.has_images:
        raise RecordError(
            f"{where}: expected its bank {fingerprint[:12]} with images among --bank, found "
            f"{'only an index without images' if reference else 'none'}. Name the bank that the run used."
        )
    if not can_draw(result, banks):
        scored = any(entry.kind == "external" for source in result.sources for entry in source.run.weights.values())
        way_out = (
            f"Put the HDF5 file that was scored there as {FILE}" if scored else "Run it again with --save-predictions"
        )
        raise RecordError(f"{where}: expected the run's masks in {FILE}, found none. {way_out}.")
    return reference.bank


def draw(result: Result, bank: Bank, chosen: Sequence[Picked]) -> Iterator[tuple[Picked, Image.Image]]:
    """The strips of episodes, each read from the record that holds its fold."""
    for one in chosen:
        source = _source(result, one.fold)
        with open_predictions(source.path / FILE) as predictions:
            if predictions.bank and predictions.bank != bank.fingerprint:
                raise RecordError(
                    f"{source.path / FILE}: expected masks for bank {bank.fingerprint[:12]}, found another's"
                )
            yield one, strip(bank, source.run, one.fold, one.episode, predictions.mask(one.fold, one.episode))


def caption(result: Result, one: Picked) -> str:
    """Class, query and place of an episode."""
    names = [result.run.bank.class_names.get(c, f"class {c}") for c in one.classes]
    return f"{', '.join(names)}; query {one.query}; fold {one.fold}, episode {one.episode}"


def _pictures(result: Result, bank: Bank, name: str, chosen: Sequence[Picked], home: Path) -> Iterator[Picture]:
    for number, (one, image) in enumerate(draw(result, bank, chosen), start=1):
        file = f"{name}-{number}.jpg"
        image.save(home / file, format="JPEG", quality=88, subsampling=0)
        text = caption(result, one)
        alt = f"Supports, truth and prediction of {text}: IoU {100 * one.iou:.1f}"
        yield Picture(file, image.width, image.height, one.iou, alt, text)


def _source(result: Result, fold: int) -> Source:
    return next(source for source in result.sources if fold in source.run.folds)


def _other_queries(order: Sequence[Picked], count: int) -> list[Picked]:
    chosen: dict[str, Picked] = {}
    for one in order:
        if len(chosen) == count:
            break
        chosen.setdefault(one.query, one)
    return list(chosen.values())
