"""The papers' own comparison tables: which rows, columns and order, as data (`data/papers/*.toml`).

A row names a method as the papers' tables do; its numbers are those of the registry of published numbers, so that a
number stands in one place only. Rows that the registry has no place for (ablations, baselines of 2017) bring `values`
and their source. No paper's text could be opened: order and choice of rows are recalled, and said to be.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fssbench.errors import DataError, UsageError, unknown_name
from fssbench.reports.papers.registry import Span, plain, published_results, spans

Part = Literal["fold 0", "fold 1", "fold 2", "fold 3", "mean", "fb"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PaperRow(_Model):
    """A row of a table: a method as papers call it, and what tells it from other rows of that method."""

    name: str
    backbone: str = ""
    label: str = ""  # as the table calls it, if not by the method's name
    annotation: Literal["mask", "box", "scribble"] = "mask"
    role: Literal["paper", "rerun", "variant", "saw-test-classes", "inferred"] = "paper"
    printed: tuple[float, ...] = ()  # only the registry's rows with one of these means, where it has several
    values: tuple[float, ...] = ()  # by shot and part; "nan" where nothing is printed
    source: str = ""
    kind: Literal["memory", "later-paper-table", "original-paper", "repo-readme"] = "memory"
    weights: Literal["", "untrained"] = ""
    config: dict[str, Any] = {}  # what a record's configuration must say to belong here
    measured: bool = True  # False: nothing that fssbench runs is this


class PaperTable(_Model):
    """A table: rows in the paper's order; for each number of shots the parts."""

    title: str
    dataset: Literal["pascal5i", "coco20i", "fss1000"]
    way: int = 1
    shots: tuple[int, ...]
    parts: tuple[Part, ...]
    rows: tuple[PaperRow, ...]

    @model_validator(mode="after")
    def _values_fill_the_row(self) -> PaperTable:
        width = len(self.shots) * len(self.parts)
        for row in self.rows:
            if len(row.values) not in (0, width) or bool(row.values) != bool(row.source):
                raise ValueError(f"{self.title}, {row.name}: expected {width} values and their source, or neither")
        return self

    def published(self, row: PaperRow, shot: int) -> dict[str, Span]:
        """What is printed, by part. Sources that were read outweigh memory; a part that nobody prints is left out."""
        if row.values:
            start = self.shots.index(shot) * len(self.parts)
            printed = zip(self.parts, row.values[start : start + len(self.parts)], strict=True)
            said = (row.kind != "memory", ((row.source, ""),))
            return {part: Span(value, value, *said) for part, value in printed if value == value}  # not NaN
        rows = [
            one
            for one in published_results()
            if (one.method, one.backbone, one.dataset, one.way, one.shot, one.annotation, one.role)
            == (row.name, row.backbone, self.dataset, self.way, shot, row.annotation, row.role)
            and (not row.printed or one.mean in row.printed or one.metric == "fb_iou")
        ]
        found = spans(rows)
        return {part: found[part] for part in self.parts if part in found}


class Paper(_Model):
    """A paper: what cites it, and its tables."""

    method: str
    also: dict[str, str] = {}  # further methods of the same paper, by their registry names
    name: str
    title: str
    authors: str
    venue: str
    journal: str = ""  # in full, where it is one
    year: int
    url: str
    code: str = ""
    tables: tuple[PaperTable, ...] = Field(min_length=1)

    @property
    def bibtex(self) -> str:
        """An entry for a bibliography; the authors' list is recalled."""
        first = self.authors.split(" and ")[0].split()[-1].lower()
        key = f"{first}{self.year}{re.sub(r'[^a-z0-9]', '', self.method)}"
        fields = {
            "title": f"{{{self.title}}}",
            "author": self.authors,
            "journal" if self.journal else "booktitle": self.journal or self.venue,
            "year": str(self.year),
            "url": self.url,
        }
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@{'article' if self.journal else 'inproceedings'}{{{key},\n{body}}}\n"


@cache
def papers() -> dict[str, Paper]:
    """All papers by method. Raises `DataError` for a file that is not as it should be."""
    found: dict[str, Paper] = {}
    for path in sorted((files("fssbench") / "data" / "papers").iterdir(), key=lambda p: p.name):
        try:
            paper = Paper.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (ValidationError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"{path}: expected a paper's tables, found: {error}") from error
        found |= dict.fromkeys((paper.method, *paper.also), paper)
    return found


def find_paper(name: str) -> Paper:
    """A paper by its method's name, in any spelling. Raises `UsageError` for one without tables here."""
    by_name = {plain(method): paper for method, paper in papers().items()}
    by_name |= {plain(paper.name): paper for paper in papers().values()}
    if plain(name) not in by_name:
        raise UsageError(f"--paper: {unknown_name('paper', name, list(papers()))}")
    return by_name[plain(name)]
