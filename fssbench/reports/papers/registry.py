"""Published numbers: the registry, and what a reader must know before setting one beside a measured number.

`data/published_results.csv` has one row for what one source prints. `role` says what kind of number it is: of the
paper itself, a rerun by its authors or others, a variant, a model that saw test classes, or inferred. `source_kind`
"memory" means that nobody has checked it against a readable source: such numbers are marked unverified.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fssbench.errors import DataError
from fssbench.reports.entries.results import Place, Setting, grouped

NAMES = {"fss1000": "FSS-1000 relation net", "gfsam": "GF-SAM"}  # registry name -> name in the tables of papers
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
    def folds(self) -> tuple[float | None, ...]:
        """The four folds, None where the source does not print one."""
        return self.fold0, self.fold1, self.fold2, self.fold3

    @property
    def numbers(self) -> dict[str, float | None]:
        """What is printed, by the names that results have for it."""
        if self.metric == "fb_iou":
            return {"fb": self.mean}
        return {**{f"fold {i}": value for i, value in enumerate(self.folds)}, "mean": self.mean}

    @property
    def verified(self) -> bool:
        """Whether the number was read from a source, not recalled."""
        return self.source_kind != "memory"


@dataclass(frozen=True)
class Span:
    """A published number in per cent, on which sources may disagree: the lowest, the highest, and who prints it."""

    low: float
    high: float
    verified: bool
    sources: tuple[tuple[str, str], ...]  # each with what it says of the number

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
    numbers: dict[str, Span]  # "fold 0", "mean", "fb"

    @property
    def miou(self) -> Span | None:
        return self.numbers.get("mean")

    @property
    def verified(self) -> bool:
        """Whether all of it was read from a source."""
        return all(span.verified for span in self.numbers.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """Who prints what was read."""
        every = self.numbers.values()
        return tuple(dict.fromkeys(source for span in every if span.verified for source, _ in span.sources))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sources say of their numbers."""
        return tuple(dict.fromkeys(note for span in self.numbers.values() for _, note in span.sources if note))


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


@cache
def _paper_scores(dataset: str, way: int, shot: int, annotation: str) -> tuple[PaperScores, ...]:
    asked = (dataset, way, shot, annotation, "paper")
    rows = [r for r in published_results() if (r.dataset, r.way, r.shot, r.annotation, r.role) == asked]
    groups = grouped(rows, lambda row: (row.method, row.backbone)).values()
    return tuple(PaperScores(g[0].method, g[0].venue, g[0].year, g[0].backbone, spans(g)) for g in groups)


def paper_scores(method: str, dataset: str, way: int, shot: int, annotation: str = "mask") -> dict[str, PaperScores]:
    """What papers say of a method by its registry name or title; one entry a backbone, keyed by `plain(backbone)`."""
    found = _paper_scores(dataset, way, shot, annotation)
    return {plain(scores.backbone): scores for scores in found if plain(scores.method) == plain(method)}


def all_papers(dataset: str, way: int, shot: int) -> list[PaperScores]:
    """What papers say of every method and backbone, supports given as masks; newest first."""
    return sorted(_paper_scores(dataset, way, shot, "mask"), key=lambda s: (-s.year, s.method.lower(), s.backbone))


def scores_for(setting: Setting, place: Place, shot: int) -> dict[str, PaperScores]:
    """What papers say of a setting's method, by backbone."""
    measured = (place.dataset, place.way, shot, setting.annotation)
    return paper_scores(NAMES.get(setting.method, setting.method), *measured) or paper_scores(setting.title, *measured)


def backbone_key(backbone: str) -> str:
    """How a backbone of ours is called in `paper_scores`: batch normalisation is not in the papers' names."""
    return plain(backbone).removesuffix("bn")


def plain(name: str) -> str:
    """Names compare without case, blanks and hyphens: "SG-One" is `sgone`, "ResNet50" is `resnet50`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def spans(rows: Iterable[PublishedResult]) -> dict[str, Span]:
    """What rows print of one method, by name. Sources that were read outweigh numbers from memory, which are used only
    where there is nothing else."""
    printed: dict[str, list[tuple[float, PublishedResult]]] = {}
    for row in rows:
        for name, value in row.numbers.items():
            if value is not None:
                printed.setdefault(name, []).append((value, row))
    found = {}
    for name, known in printed.items():
        verified = any(row.verified for _, row in known)
        values = [value for value, row in known if row.verified == verified]
        sources = dict.fromkeys((row.source, row.note) for _, row in known if row.verified == verified)
        found[name] = Span(min(values), max(values), verified, tuple(sources))
    return found
