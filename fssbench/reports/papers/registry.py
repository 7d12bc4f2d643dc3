"""Published numbers: the registry, and what a reader must know before setting one beside a measured number.

`data/published_results.csv` has one row for what one source prints. `role` says what kind of number it is: of the
paper itself, a rerun by its authors or others, a variant, a model that saw test classes, or inferred. `source_kind`
"memory" means that nobody has checked it against a readable source: such numbers are marked unverified.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fssbench.errors import DataError
from fssbench.reports.entries.results import Place, Setting

Percent = float | None
NAMES = {"fss1000": "FSS-1000 relation net", "gfsam": "GF-SAM"}  # registry name -> name in the tables of papers
FOLDS = ("fold0", "fold1", "fold2", "fold3")
ROUNDING = 0.1001  # how far the mean of rounded folds may be from a rounded mean


class PublishedResult(BaseModel):
    """One number, or one row of a table, as one source prints it. In per cent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(min_length=1)
    venue: str
    year: int = Field(ge=2017, le=2100)
    backbone: str = Field(min_length=1)
    dataset: Literal["pascal5i", "coco20i", "fss1000"]
    way: int = Field(gt=0)
    shot: int = Field(gt=0)
    metric: Literal["miou", "fb_iou"]
    annotation: Literal["mask", "box", "scribble"]
    role: Literal["paper", "rerun", "variant", "saw-test-classes", "inferred"]
    fold0: float | None = Field(default=None, gt=0, lt=100)
    fold1: float | None = Field(default=None, gt=0, lt=100)
    fold2: float | None = Field(default=None, gt=0, lt=100)
    fold3: float | None = Field(default=None, gt=0, lt=100)
    mean: float | None = Field(default=None, gt=0, lt=100)
    misprint: bool = False  # the printed mean is not the mean of the printed folds
    source: str = Field(min_length=1)
    source_kind: Literal["original-paper", "repo-readme", "later-paper-table", "memory"]
    note: str = ""

    @field_validator("fold0", "fold1", "fold2", "fold3", "mean", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("misprint", mode="before")
    @classmethod
    def _yes_or_empty(cls, value: object) -> object:
        return value == "yes" if value in ("", "yes") else value

    @property
    def folds(self) -> tuple[Percent, ...]:
        """The four folds, None where the source does not print one."""
        return self.fold0, self.fold1, self.fold2, self.fold3

    @property
    def verified(self) -> bool:
        """Whether the number was read from a source, not recalled."""
        return self.source_kind != "memory"


@dataclass(frozen=True)
class Span:
    """A number on which sources may disagree: the lowest and the highest. In per cent."""

    low: float
    high: float
    verified: bool

    @property
    def middle(self) -> float:
        """What a difference is taken to."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class PaperScores:
    """What a paper says of one method, backbone and shot, over all sources."""

    method: str
    venue: str
    year: int
    backbone: str
    miou_folds: tuple[Span | None, ...]
    miou: Span | None
    fb_iou: Span | None
    sources: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def verified(self) -> bool:
        """Whether all of it was read from a source."""
        spans = (*self.miou_folds, self.miou, self.fb_iou)
        return all(span is None or span.verified for span in spans)


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """The registry. Raises `DataError` naming the line that is not as it should be."""
    path = files("fssbench") / "data" / "published_results.csv"
    rows: list[PublishedResult] = []
    for line, row in enumerate(csv.DictReader(path.read_text(encoding="utf-8").splitlines()), start=2):
        try:
            rows.append(PublishedResult.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(f"{path}, line {line}: {first['loc']}: {first['msg']}") from error
    return tuple(rows)


def paper_scores(method: str, dataset: str, way: int, shot: int, annotation: str = "mask") -> dict[str, PaperScores]:
    """What papers say of a method by its registry name or title; one entry a backbone, keyed by `plain(backbone)`."""
    wanted = plain(method)
    rows = [
        row
        for row in published_results()
        if plain(row.method) == wanted
        and (row.dataset, row.way, row.shot, row.annotation) == (dataset, way, shot, annotation)
        and row.role == "paper"
    ]
    backbones = dict.fromkeys(row.backbone for row in rows)
    return {plain(name): _combine([row for row in rows if row.backbone == name]) for name in backbones}


def all_papers(dataset: str, way: int, shot: int) -> list[PaperScores]:
    """What papers say of every method and backbone, supports given as masks; newest first."""
    rows = [
        row
        for row in published_results()
        if (row.dataset, row.way, row.shot, row.annotation, row.role) == (dataset, way, shot, "mask", "paper")
    ]
    names = dict.fromkeys((row.method, row.backbone) for row in rows)
    found = [_combine([row for row in rows if (row.method, row.backbone) == name]) for name in names]
    return sorted(found, key=lambda scores: (-scores.year, scores.method.lower(), scores.backbone))


def scores_for(setting: Setting, place: Place, shot: int) -> dict[str, PaperScores]:
    """What papers say of a setting's method, by backbone."""
    for name in (NAMES.get(setting.method, setting.method), setting.title):
        found = paper_scores(name, place.dataset, place.way, shot, setting.annotation)
        if found:
            return found
    return {}


def backbone_key(backbone: str) -> str:
    """How a backbone of ours is called in `paper_scores`: batch normalisation is not in the papers' names."""
    return plain(backbone).removesuffix("bn")


def plain(name: str) -> str:
    """Names compare without case, blanks and hyphens: "SG-One" is `sgone`, "ResNet50" is `resnet50`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _combine(rows: Sequence[PublishedResult]) -> PaperScores:
    miou = [row for row in rows if row.metric == "miou"]
    first = rows[0]
    return PaperScores(
        method=first.method,
        venue=first.venue,
        year=first.year,
        backbone=first.backbone,
        miou_folds=tuple(span_of((getattr(row, fold), row.verified) for row in miou) for fold in FOLDS),
        miou=span_of((row.mean, row.verified) for row in miou),
        fb_iou=span_of((row.mean, row.verified) for row in rows if row.metric == "fb_iou"),
        sources=tuple(dict.fromkeys(row.source for row in rows if row.verified)),
        notes=tuple(dict.fromkeys(row.note for row in rows if row.note)),
    )


def span_of(values: Iterable[tuple[Percent, bool]]) -> Span | None:
    """Numbers, each with whether it was read, as one.

    Sources that were read outweigh numbers from memory; those are used only where there is nothing else.
    """
    known = [(value, verified) for value, verified in values if value is not None]
    read = [value for value, verified in known if verified]
    used = read or [value for value, _ in known]
    return Span(min(used), max(used), bool(read)) if used else None
