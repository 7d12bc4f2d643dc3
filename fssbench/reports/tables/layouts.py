"""The layouts of the papers: one table by folds, one by classes. From results to `Table`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fssbench.protocol import Protocol
from fssbench.reports.entries.lines import (
    Line,
    Scores,
    lines_of,
    method_label,
    settings_that_differ,
    title,
    weights_label,
)
from fssbench.reports.entries.results import Place, Result
from fssbench.reports.entries.uncertainty import result_intervals
from fssbench.reports.papers.beside import Beside, beside
from fssbench.reports.papers.registry import PaperScores, Span
from fssbench.reports.tables.model import MISSING, Cell, Column, Row, Table, difference, number, ranked
from fssbench.reports.tables.remarks import lead, notes, reason
from fssbench.scoring.intervals import Interval
from fssbench.scoring.rules import rules_of

Bounds = dict[str, Interval]


@dataclass(frozen=True)
class View:
    """How results are looked at."""

    digits: int = 1
    published: bool = False  # the paper's row under ours
    intervals: bool = False
    lens: Protocol | None = None  # whose rules of accumulation the results were put through


@dataclass(frozen=True)
class Shown:
    """A line with everything that its rows print."""

    line: Line
    setting: str  # what tells it from lines that look the same
    scores: dict[int, Scores]  # by shot
    bounds: dict[int, Bounds]  # by shot; empty without intervals
    paper: Beside | None


def places_of(results: Sequence[Result]) -> dict[Place, list[Result]]:
    """Results that can be compared, together."""
    places: dict[Place, list[Result]] = {}
    for result in results:
        places.setdefault(result.place, []).append(result)
    return places


def shown_lines(results: Sequence[Result], view: View) -> list[Shown]:
    """The lines of one place."""
    lines = lines_of(results)
    rules = None if view.lens is None else rules_of(view.lens.model_dump())
    return [
        Shown(
            line=line,
            setting=setting,
            scores={shot: scores for shot in sorted(line.shots) if (scores := line.scores(shot)) is not None},
            bounds={
                shot: result_intervals(members, rules) if view.intervals else {} for shot, members in line.shots.items()
            },
            paper=beside(line) if view.published else None,
        )
        for line, setting in zip(lines, settings_that_differ(lines), strict=True)
    ]


def fold_tables(results: Sequence[Result], view: View | None = None) -> list[Table]:
    """One table a place: rows method x backbone x weights; for each shot the folds, their mean, and FB-IoU."""
    view = view or View()
    places = places_of(results)
    tables = []
    for place, members in places.items():
        lines = shown_lines(members, view)
        tables.append(_fold_table(place, lines, reason(place, list(places)), view))
        if any(shown.paper is not None for shown in lines):
            tables.append(_differs_table(place, lines))
    return tables


def _differs_table(place: Place, lines: list[Shown]) -> Table:
    """What separates each line from its paper's row, one thing a row."""
    rows = [
        Row((Cell(method_label(shown.line.setting)), Cell(shown.line.setting.backbone), Cell(word)))
        for shown in lines
        if shown.paper is not None
        for word in shown.paper.differs or ("nothing that the record knows of",)
    ]
    heads = ("Method", "Backbone", "differs from the paper in")
    return Table(f"{title(place)}: beside the papers", tuple(Column(h, numeric=False) for h in heads), tuple(rows))


def class_tables(results: Sequence[Result], view: View | None = None) -> list[Table]:
    """One table a place: rows classes, columns method and shot."""
    view = view or View()
    places = places_of(results)
    return [
        _class_table(place, shown_lines(members, view), reason(place, list(places)), view)
        for place, members in places.items()
    ]


@dataclass(frozen=True)
class _Grid:
    """Which columns a table of folds has."""

    shots: tuple[int, ...]
    folds: tuple[int, ...]
    fb: bool
    setting: bool
    negatives: bool = False

    @property
    def columns(self) -> list[Column]:
        names = ["Method", "Backbone", "Weights", *(["Setting"] if self.setting else [])]
        by_fold = [*(f"fold {fold}" for fold in self.folds), "mean"] if len(self.folds) > 1 else ["mIoU"]
        numeric = [*by_fold, *(["FB-IoU"] if self.fb else []), *(["FPR"] if self.negatives else [])]
        return [
            *(Column(name, numeric=False) for name in names),
            *(Column(heading, f"{shot}-shot") for shot in self.shots for heading in numeric),
        ]

    def cells(self, folds: Sequence[Cell], mean: Cell, fb: Cell, rate: Cell | None = None) -> list[Cell]:
        """The cells of one shot: folds only where there are several, FB-IoU and FPR only where anybody has one."""
        last = [*([fb] if self.fb else []), *([rate or Cell(MISSING)] if self.negatives else [])]
        return [*(folds if len(self.folds) > 1 else []), mean, *last]

    def names(self, *words: str) -> list[Cell]:
        """The cells left of the numbers."""
        return [Cell(word) for word in words[: 3 + self.setting]]


def _fold_table(place: Place, lines: list[Shown], why: str, view: View) -> Table:
    grid = _Grid(
        shots=tuple(sorted({shot for shown in lines for shot in shown.scores})),
        folds=tuple(sorted(lines[0].line.results[0].run.bank.folds)),
        fb=any(scores.fb_iou is not None for shown in lines for scores in shown.scores.values()) or place.way == 1,
        setting=any(shown.setting for shown in lines),
        negatives=any(s.false_positive_rate is not None for shown in lines for s in shown.scores.values()),
    )
    rows = [row for shown in lines for row in _rows(shown, grid, view)]
    plain = [shown.line for shown in lines]
    papers = [(shown.line, shown.paper) for shown in lines if shown.paper is not None]
    return Table(
        title=title(place),
        columns=tuple(grid.columns),
        rows=ranked(rows, grid.columns, view.digits),
        lead=lead(place, plain, why, view.lens),
        notes=notes(place, plain, papers, with_intervals=view.intervals, with_published=view.published),
    )


def _rows(shown: Shown, grid: _Grid, view: View) -> list[Row]:
    setting = shown.line.setting
    ours = [
        *grid.names(method_label(setting), setting.backbone, weights_label(setting), shown.setting or MISSING),
        *(cell for shot in grid.shots for cell in _own_cells(shown, shot, grid, view.digits)),
    ]
    rows = [Row(tuple(ours), "seen" if setting.contaminated else "ours")]
    if shown.paper is not None:
        label, paper = shown.paper.label, shown.paper
        words = "published" if paper.verified else "published, partly unverified"
        printed = [cell for shot in grid.shots for cell in _paper_cells(paper.shots.get(shot), grid)]
        rows.append(Row((*grid.names(label, paper.backbone, words, MISSING), *printed), "published"))
        if paper.comparable:
            apart = [cell for shot in grid.shots for cell in _difference_cells(shown, shot, grid, view.digits)]
            rows.append(Row((*grid.names("difference", MISSING, MISSING, MISSING), *apart), "difference"))
    return rows


def _own_cells(shown: Shown, shot: int, grid: _Grid, digits: int) -> list[Cell]:
    scores, bounds = shown.scores.get(shot), shown.bounds.get(shot, {})
    if scores is None:
        return grid.cells([Cell(MISSING)] * len(grid.folds), Cell(MISSING), Cell(MISSING))
    spread = scores.training_std if scores.training_std is not None else scores.run_std
    return grid.cells(
        [number(scores.folds[fold], digits, None, _bound(bounds, f"fold {fold}")) for fold in grid.folds],
        number(scores.mean, digits, spread, _bound(bounds, "mean")),
        number(scores.fb_iou, digits, None, _bound(bounds, "fb")),
        replace(number(scores.false_positive_rate, digits), value=None),  # less is better: no mark for the highest
    )


def _bound(bounds: Bounds, name: str) -> tuple[float, float] | None:
    return (bounds[name].low, bounds[name].high) if name in bounds else None


def _paper_cells(scores: PaperScores | None, grid: _Grid) -> list[Cell]:
    if scores is None:
        return grid.cells([Cell(MISSING)] * len(grid.folds), Cell(MISSING), Cell(MISSING))
    folds = [span_cell(scores.miou_folds[fold] if fold < len(scores.miou_folds) else None) for fold in grid.folds]
    return grid.cells(folds, span_cell(scores.miou), span_cell(scores.fb_iou))


def span_cell(span: Span | None) -> Cell:
    """As printed by the source; a range where sources disagree; ~ where nobody read it."""
    if span is None:
        return Cell(MISSING)
    low, high = (f"{v:.1f}" if round(v, 1) == v else f"{v:.2f}" for v in (span.low, span.high))
    text = low if low == high else f"{low}–{high}"
    return Cell(text if span.verified else f"~{text}", span.middle / 100)


def _difference_cells(shown: Shown, shot: int, grid: _Grid, digits: int) -> list[Cell]:
    ours, paper = shown.scores.get(shot), shown.paper.shots.get(shot) if shown.paper else None
    if ours is None or paper is None:
        return grid.cells([Cell(MISSING)] * len(grid.folds), Cell(MISSING), Cell(MISSING))

    def apart(value: float | None, span: Span | None) -> Cell:
        cell = difference(None if value is None or span is None else value - span.middle / 100, digits)
        return cell if span is None or span.verified or value is None else replace(cell, text=f"~{cell.text}")

    folds = [
        apart(ours.folds[fold], paper.miou_folds[fold] if fold < len(paper.miou_folds) else None) for fold in grid.folds
    ]
    return grid.cells(folds, apart(ours.mean, paper.miou), apart(ours.fb_iou, paper.fb_iou))


def _class_table(place: Place, lines: list[Shown], why: str, view: View) -> Table:
    bank = lines[0].line.results[0].run.bank
    columns = [Column("Fold", numeric=False), Column("Class", numeric=False)]
    held: list[tuple[Scores, Bounds]] = []
    for shown in lines:
        setting = shown.line.setting
        words = [method_label(setting), setting.backbone, weights_label(setting), shown.setting]
        for shot, scores in shown.scores.items():
            columns.append(Column(f"{shot}-shot", ", ".join(filter(None, words))))
            held.append((scores, shown.bounds[shot]))

    def row(fold: str, name: str, key: str, values: Sequence[float | None]) -> Row:
        cells = [
            number(value, view.digits, None, _bound(bounds, key))
            for value, (_, bounds) in zip(values, held, strict=True)
        ]
        return Row((Cell(fold), Cell(name), *cells))

    rows = [
        row(str(fold), bank.class_names.get(c, str(c)), f"class {c}", [scores.classes[c] for scores, _ in held])
        for fold, classes in sorted(bank.folds.items())
        for c in classes
    ]
    rows.append(row(MISSING, "mean", "mean", [scores.mean for scores, _ in held]))
    plain = [shown.line for shown in lines]
    return Table(
        title=f"{title(place)}, by class",
        columns=tuple(columns),
        rows=tuple(rows),
        lead=lead(place, plain, why, view.lens),
        notes=notes(place, plain, [], with_intervals=view.intervals, with_published=False),
    )
