"""A paper's comparison tables as `Table`: published cells with their certainty, what was measured beside them, and
what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fssbench.reports.entries.lines import Line, lines_of, weights_label
from fssbench.reports.entries.results import Result
from fssbench.reports.papers.beside import differences_of
from fssbench.reports.papers.paper import Paper, PaperRow, PaperTable
from fssbench.reports.papers.registry import NAMES, Span, backbone_key, plain
from fssbench.reports.tables.layouts import differs_table, span_cell
from fssbench.reports.tables.model import MISSING, Cell, Table, columns, number, row
from fssbench.reports.tables.remarks import listed

RECALLED = (
    "Rows, columns and their order as recalled: the paper's text could not be opened. "
    "~: number from memory, not checked against a source."
)


@dataclass(frozen=True)
class Filled:
    """A row with its numbers: the published ones by shot, the measured line that fits best, and how many more fit."""

    row: PaperRow
    published: dict[int, dict[str, Span]]  # by shot, and by the names of `numbers_of`
    line: Line | None
    differs: tuple[str, ...]
    others: int

    @property
    def label(self) -> str:
        return self.row.label or self.row.name

    def measured(self, shot: int, name: str) -> float | None:
        """A number of the line; None without one."""
        scores = self.line.scores(shot) if self.line else None
        return scores.numbers.get(name) if scores else None


def fill(table: PaperTable, results: Sequence[Result]) -> list[Filled]:
    """The rows of a table with everything known of them. A measured line stands in one row only."""
    lines = [line for line in lines_of([r for r in results if r.shot in table.shots]) if _could_fit(table, line)]
    homes: dict[int, list[Line]] = {}
    for line in lines:
        ranked = [(_distance(named, line, table), i) for i, named in enumerate(table.rows) if _is(named, line)]
        if ranked:
            homes.setdefault(min(ranked)[1], []).append(line)
    filled = []
    for i, named in enumerate(table.rows):
        known = [(_differs(named, line), line) for line in homes.get(i, [])]
        known.sort(key=lambda one: (len(one[0]), -one[1].results[0].summary.episodes))
        differs, best = known[0] if known else ((), None)
        printed = {shot: table.published(named, shot) for shot in table.shots}
        filled.append(Filled(named, printed, best, differs, max(0, len(known) - 1)))
    return filled


def paper_tables(paper: Paper, results: Sequence[Result], digits: int = 1) -> list[Table]:
    """Every table of the paper in its layout, then sources, holes and differences."""
    tables = []
    for table in paper.tables:
        filled = fill(table, results)
        tables.append(_numbers(paper, table, filled, digits))
        if any(one.line for one in filled):
            tables.append(_differences(table, filled))
    tables.append(_origins(paper))
    return tables


def paper_data(paper: Paper, results: Sequence[Result]) -> list[dict[str, Any]]:
    """One entry a cell: where it stands, what is published and how certain, what was measured and what differs."""
    return [entry for table in paper.tables for one in fill(table, results) for entry in _entries(paper, table, one)]


def _entries(paper: Paper, table: PaperTable, one: Filled) -> Iterator[dict[str, Any]]:
    for shot in table.shots:
        for part in table.parts:
            span, value = one.published[shot].get(part), one.measured(shot, part)
            yield {
                "paper": paper.method,
                "table": table.title,
                "row": one.label,
                "backbone": one.row.backbone,
                "shot": shot,
                "part": part,
                "published_low": None if span is None else span.low,
                "published_high": None if span is None else span.high,
                "certainty": "hole" if span is None else "read" if span.verified else "memory",
                "sources": [source for source, _ in span.sources] if span else [],
                "measured": None if value is None else round(100 * value, 8),
                "measured_backbone": one.line.setting.backbone if one.line else None,
                "differs": list(one.differs),
                "records": [s.run.id for r in one.line.shots.get(shot, ()) for s in r.sources] if one.line else [],
            }


def _could_fit(table: PaperTable, line: Line) -> bool:
    return (line.place.dataset, line.place.way) == (table.dataset, table.way) and not line.setting.contaminated


def _is(row: PaperRow, line: Line) -> bool:
    setting = line.setting
    config = json.loads(setting.config)
    names = {plain(NAMES.get(setting.method, setting.method)), plain(setting.title)}
    return (
        row.measured
        and plain(row.name) in names
        and row.annotation == setting.annotation
        and all(config.get(field) == value for field, value in row.config.items())
    )


def _distance(row: PaperRow, line: Line, table: PaperTable) -> tuple[bool, bool, bool]:
    """A line belongs to the row that says of itself what the line is: untrained, of this configuration, backbone."""
    untrained = not {"checkpoint", "authors", "external"} & set(line.setting.weights.split(" and "))
    return (row.weights == "untrained") != untrained, not row.config, _other_backbone(row, line) is not None


def _other_backbone(row: PaperRow, line: Line) -> str | None:
    return None if plain(row.backbone) == backbone_key(line.setting.backbone) else row.backbone


def _differs(row: PaperRow, line: Line) -> tuple[str, ...]:
    words = differences_of(line, _other_backbone(row, line))
    return tuple(word for word in words if row.weights != "untrained" or "ours is untrained" not in word)


def _numbers(paper: Paper, table: PaperTable, filled: list[Filled], digits: int) -> Table:
    measured = [part for part in ("mean", "fb") if part in table.parts] if any(one.line for one in filled) else []
    heads = [_head(part) for part in table.parts] + [
        "measured" if part == "mean" else "measured FB" for part in measured
    ]
    rows = []
    for one in filled:
        cells = [Cell(one.label), Cell(one.row.backbone or MISSING)]
        for shot in table.shots:
            cells += [span_cell(one.published[shot].get(part)) for part in table.parts]
            scores = one.line.scores(shot) if one.line else None
            spreads = {"mean": scores.training_std} if scores else {}
            cells += [
                replace(number(one.measured(shot, part), digits, spreads.get(part)), measured=True) for part in measured
            ]
        rows.append(row(*cells, kind="published"))
    notes = _holes(table, filled)
    if not measured:
        notes.append(f"Nothing measured fits this table. How to get there: fssbench reproduce {paper.method}")
    right = [head for shot in table.shots for head in columns(*heads, group=f"{shot}-shot", numeric=True)]
    title = f"{paper.name} ({paper.venue} {paper.year}): {table.title}"
    return Table(title, (*columns("Method", "Backbone"), *right), tuple(rows), (RECALLED,), tuple(notes))


def _head(part: str) -> str:
    return "FB-IoU" if part == "fb" else part


def _holes(table: PaperTable, filled: list[Filled]) -> list[str]:
    """The cells that no source at hand prints, by row."""
    found = []
    for one in filled:
        gaps = []
        for shot in table.shots:
            lacking = [_head(part) for part in table.parts if part not in one.published[shot]]
            if lacking:
                gaps.append(f"{shot}-shot {', '.join(lacking) if len(lacking) < len(table.parts) else 'all'}")
        if gaps:
            found.append(f"{one.label}{f' {one.row.backbone}' if one.row.backbone else ''} ({'; '.join(gaps)})")
    return [f"No source at hand prints: {'; '.join(found)}."] if found else []


def _differences(table: PaperTable, filled: list[Filled]) -> Table:
    """What separates the measured lines from the papers' rows; below, what each of them is."""
    differs: dict[str, tuple[str, ...]] = {}
    settings: dict[str, list[str]] = {}
    for one in filled:
        if one.line is not None:
            name = one.label if one.label not in differs else f"{one.label} {one.row.backbone}"
            differs[name] = one.differs
            words = (one.line.setting.backbone, weights_label(one.line.setting), f"protocol {one.line.place.protocol}")
            more = f" ({one.others} more settings fit less well)" if one.others else ""
            settings.setdefault(", ".join(words), []).append(name + more)
    measured = [f"Measured with {words}: {listed(names)}." for words, names in settings.items()]
    return differs_table(f"Measured beside: {table.title}", differs, measured)


def _origins(paper: Paper) -> Table:
    """Where the published cells are from: a row for each of the tables' rows and its sources."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for table in paper.tables:
        way = f"{table.way}-way " if table.way > 1 else ""
        for one in table.rows:
            for shot in table.shots:
                for part, span in table.published(one, shot).items():
                    for source in span.sources:
                        names = (one.label or one.name, one.backbone or MISSING)
                        key = (*names, "read" if span.verified else "memory", *source)
                        found.setdefault(key, {})[f"{way}{shot}-shot {_head(part)}"] = None
    rows = [row(*key[:2], ", ".join(cells), *key[2:]) for key, cells in sorted(found.items())]
    heads = columns("Row", "Backbone", "Cells", "Certainty", "Source", "It says")
    return Table(f"{paper.name}: where the published cells are from", heads, tuple(rows))
