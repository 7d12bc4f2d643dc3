"""A paper's comparison tables as `Table`: published cells with their certainty, what was measured beside them, and
what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fssbench.reports.entries.lines import Line, Scores, lines_of, weights_label
from fssbench.reports.entries.results import Result
from fssbench.reports.papers.beside import differences_of
from fssbench.reports.papers.paper import Paper, PaperRow, PaperTable, Part, Printed
from fssbench.reports.papers.registry import NAMES, backbone_key, plain
from fssbench.reports.tables.layouts import span_cell
from fssbench.reports.tables.model import MISSING, Cell, Column, Row, Table, number

HEADS = {"fold0": "fold 0", "fold1": "fold 1", "fold2": "fold 2", "fold3": "fold 3", "mean": "mean", "fb": "FB-IoU"}
RECALLED = (
    "Rows, columns and their order as recalled: the paper's text could not be opened. "
    "~: number from memory, not checked against a source."
)


@dataclass(frozen=True)
class Filled:
    """A row with its numbers: the published ones by shot, the measured line that fits best, and how many more fit."""

    row: PaperRow
    published: dict[int, dict[Part, Printed]]  # by shot
    line: Line | None
    differs: tuple[str, ...]
    others: int

    @property
    def label(self) -> str:
        return self.row.label or self.row.name


def fill(table: PaperTable, results: Sequence[Result]) -> list[Filled]:
    """The rows of a table with everything known of them. A measured line stands in one row only."""
    lines = [line for line in lines_of([r for r in results if r.shot in table.shots]) if _could_fit(table, line)]
    homes: dict[int, list[Line]] = {}
    for line in lines:
        ranked = [(_distance(row, line, table), i) for i, row in enumerate(table.rows) if _is(row, line)]
        if ranked:
            homes.setdefault(min(ranked)[1], []).append(line)
    filled = []
    for i, row in enumerate(table.rows):
        known = [(_differs(row, line), line) for line in homes.get(i, [])]
        known.sort(key=lambda one: (len(one[0]), -one[1].results[0].summary.episodes))
        differs, best = known[0] if known else ((), None)
        printed = {shot: table.published(row, shot) for shot in table.shots}
        filled.append(Filled(row, printed, best, differs, max(0, len(known) - 1)))
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
        scores = one.line.scores(shot) if one.line else None
        for part in table.parts:
            printed = one.published[shot].get(part)
            span = printed.span if printed else None
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
                "sources": [source for source, _ in printed.sources] if printed else [],
                "measured": None if (value := _measured(scores, part)) is None else round(100 * value, 8),
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


def _cell(printed: Printed | None) -> Cell:
    return span_cell(printed.span if printed else None)


def _differs(row: PaperRow, line: Line) -> tuple[str, ...]:
    words = differences_of(line, _other_backbone(row, line))
    return tuple(word for word in words if row.weights != "untrained" or "ours is untrained" not in word)


def _measured(scores: Scores | None, part: str) -> float | None:
    if scores is None:
        return None
    if part.startswith("fold"):
        return scores.folds.get(int(part[-1]))
    return scores.mean if part == "mean" else scores.fb_iou


def _numbers(paper: Paper, table: PaperTable, filled: list[Filled], digits: int) -> Table:
    measured = [part for part in ("mean", "fb") if part in table.parts] if any(one.line for one in filled) else []
    columns = [Column("Method", numeric=False), Column("Backbone", numeric=False)]
    for shot in table.shots:
        columns += [Column(HEADS[part], f"{shot}-shot") for part in table.parts]
        columns += [Column("measured" if part == "mean" else "measured FB", f"{shot}-shot") for part in measured]
    rows = []
    for one in filled:
        cells = [Cell(one.label), Cell(one.row.backbone or MISSING)]
        for shot in table.shots:
            cells += [_cell(one.published[shot].get(part)) for part in table.parts]
            scores = one.line.scores(shot) if one.line else None
            spread = scores.training_std if scores else None
            cells += [
                replace(number(_measured(scores, part), digits, spread if part == "mean" else None), measured=True)
                for part in measured
            ]
        rows.append(Row(tuple(cells), "published"))
    notes = [*_holes(table, filled)]
    if not measured:
        notes.append(f"Nothing measured fits this table. How to get there: fssbench reproduce {paper.method}")
    return Table(f"{paper.name} ({paper.venue} {paper.year}): {table.title}", tuple(columns), tuple(rows),
                 (RECALLED,), tuple(notes))  # fmt: skip


def _holes(table: PaperTable, filled: list[Filled]) -> list[str]:
    """The cells that no source at hand prints, by row."""
    found = []
    for one in filled:
        gaps = []
        for shot in table.shots:
            lacking = [HEADS[part] for part in table.parts if part not in one.published[shot]]
            if lacking:
                gaps.append(f"{shot}-shot {', '.join(lacking) if len(lacking) < len(table.parts) else 'all'}")
        if gaps:
            found.append(f"{one.label}{f' {one.row.backbone}' if one.row.backbone else ''} ({'; '.join(gaps)})")
    return [f"No source at hand prints: {'; '.join(found)}."] if found else []


def _differences(table: PaperTable, filled: list[Filled]) -> Table:
    rows = []
    for one in filled:
        if one.line is None:
            continue
        setting = one.line.setting
        kept = (one.label, setting.backbone, weights_label(setting), one.line.place.protocol)
        for word in one.differs or ("nothing that the record knows of",):
            rows.append(Row(tuple(Cell(text) for text in (*kept, word))))
        if one.others:
            rows.append(Row(tuple(Cell(text) for text in (*kept, f"({one.others} more settings fit less well)"))))
    heads = ("Row", "Backbone", "Weights", "Protocol", "measured differs from the paper in")
    return Table(f"Measured beside: {table.title}", tuple(Column(h, numeric=False) for h in heads), tuple(rows))


def _origins(paper: Paper) -> Table:
    """Where the published cells are from: a row for each of the tables' rows and its sources."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for table in paper.tables:
        for row in table.rows:
            for shot in table.shots:
                for part, cell in table.published(row, shot).items():
                    for source, note in cell.sources:
                        names = (row.label or row.name, row.backbone or MISSING)
                        key = (*names, "read" if cell.span.verified else "memory", source, note)
                        way = f"{table.way}-way " if table.way > 1 else ""
                        found.setdefault(key, {})[f"{way}{shot}-shot {HEADS[part]}"] = None
    rows = [Row(tuple(map(Cell, (*key[:2], ", ".join(cells), *key[2:])))) for key, cells in sorted(found.items())]
    columns = [Column(h, numeric=False) for h in ("Row", "Backbone", "Cells", "Certainty", "Source", "It says")]
    return Table(f"{paper.name}: where the published cells are from", tuple(columns), tuple(rows))
