"""The layouts of the papers: one table by folds, one by classes. From results to `Table`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fssbench.progress import Progress, quiet
from fssbench.protocol import Protocol
from fssbench.reports.entries.lines import Line, Scores, lines_of, settings_that_differ, title, weights_label
from fssbench.reports.entries.results import Place, Result, places_of
from fssbench.reports.papers.beside import Beside, beside
from fssbench.reports.papers.registry import Span
from fssbench.reports.tables.model import MISSING, Cell, Row, RowKind, Table, columns, difference, number, ranked, row
from fssbench.reports.tables.remarks import lead, listed, notes, reason
from fssbench.scoring.rules import rules_of

if TYPE_CHECKING:
    from fssbench.scoring.intervals import Interval


@dataclass(frozen=True)
class View:
    """How results are looked at."""

    digits: int = 1
    published: bool = False  # the paper's row under ours
    intervals: bool = False
    lens: Protocol | None = None  # whose rules of accumulation the results were put through
    track: Progress = quiet  # of what takes long: intervals


@dataclass(frozen=True)
class Shown:
    """A line with everything that its rows print. Numbers go by the names of `numbers_of`: "fold 0", "mean", "fb"."""

    line: Line
    setting: str  # what tells it from lines that look the same
    scores: dict[int, Scores]  # by shot
    bounds: dict[int, dict[str, Interval]]  # by shot; empty without intervals
    paper: Beside | None

    @property
    def words(self) -> tuple[str, str, str]:
        """Method, backbone and weights."""
        return self.line.label, self.line.setting.backbone, weights_label(self.line.setting)

    def measured(self, shot: int, name: str, digits: int) -> Cell:
        """What was measured, with its interval, the mean with its deviation; a dash where it was not run."""
        if shot not in self.scores:
            return Cell(MISSING)
        scores, bound = self.scores[shot], self.bounds[shot].get(name)
        interval = None if bound is None else (bound.low, bound.high)
        cell = number(scores.numbers.get(name), digits, scores.spread if name == "mean" else None, interval)
        return replace(cell, value=None) if name == "fpr" else cell  # less is better: no mark for the highest

    def printed(self, shot: int, name: str, _: int) -> Cell:
        """What the paper prints."""
        return span_cell(self._span(shot, name))

    def apart(self, shot: int, name: str, digits: int) -> Cell:
        """Measured minus printed."""
        span, value = self._span(shot, name), self.scores[shot].numbers.get(name) if shot in self.scores else None
        if span is None or value is None:
            return Cell(MISSING)
        cell = difference(value - span.middle / 100, digits)
        return cell if span.verified else replace(cell, text=f"~{cell.text}")

    def _span(self, shot: int, name: str) -> Span | None:
        return self.paper.shots[shot].numbers.get(name) if self.paper and shot in self.paper.shots else None


def shown_lines(results: Sequence[Result], view: View) -> list[Shown]:
    """The lines of one place."""

    def bounds(members: Sequence[Result]) -> dict[str, Interval]:
        if not view.intervals:
            return {}
        from fssbench.reports.entries.uncertainty import result_intervals  # a report without needs no scipy

        return result_intervals(members, None if view.lens is None else rules_of(view.lens.model_dump()))

    lines, track = lines_of(results), view.track if view.intervals else quiet
    return [
        Shown(
            line=line,
            setting=setting,
            scores={shot: scores for shot in sorted(line.shots) if (scores := line.scores(shot)) is not None},
            bounds={shot: bounds(members) for shot, members in line.shots.items()},
            paper=beside(line) if view.published else None,
        )
        for line, setting in track([*zip(lines, settings_that_differ(lines), strict=True)], "measuring")
    ]


def fold_tables(results: Sequence[Result], view: View | None = None) -> list[Table]:
    """One table a place: rows method x backbone x weights; for each shot the folds, their mean, and FB-IoU. With the
    papers' rows, a second one says what separates ours from them."""
    view = view or View()
    places = places_of(results)
    tables = []
    for place, members in places.items():
        lines = shown_lines(members, view)
        tables.append(_fold_table(place, lines, reason(place, list(places)), view))
        several = len({shown.line.setting.backbone for shown in lines}) > 1
        differs: dict[str, list[str]] = {}
        for shown in lines:
            if shown.paper is not None:
                words = [shown.line.label, shown.line.setting.backbone if several else "", shown.setting]
                differs.setdefault(", ".join(filter(None, words)), []).extend(shown.paper.differs)
        if differs:
            tables.append(differs_table(f"{title(place)}: beside the papers", differs))
    return tables


def class_tables(results: Sequence[Result], view: View | None = None) -> list[Table]:
    """One table a place: rows classes, columns method and shot."""
    view = view or View()
    places = places_of(results)
    return [
        _class_table(place, shown_lines(members, view), reason(place, list(places)), view)
        for place, members in places.items()
    ]


def differs_table(heading: str, differs: Mapping[str, Sequence[str]], remarks: Sequence[str] = ()) -> Table:
    """What separates measured rows from the papers', by row: what all of them share is said once, and first."""
    whose: dict[str, list[str]] = {}
    for name, words in differs.items():
        for word in dict.fromkeys(words or ("nothing that the record knows of",)):
            whose.setdefault(word, []).append(name)
    shared: dict[tuple[str, ...], list[str]] = {}
    for word, names in whose.items():
        shared.setdefault(tuple(names), []).append(word)
    rows = [
        row(f"all {len(names)}" if len(names) == len(differs) > 1 else listed(names), "; ".join(words))
        for names, words in sorted(shared.items(), key=lambda one: -len(one[0]))
    ]
    return Table(heading, columns("Row", "measured differs from the paper in"), tuple(rows), notes=tuple(remarks))


def _fold_table(place: Place, lines: Sequence[Shown], why: str, view: View) -> Table:
    known = {name for shown in lines for scores in shown.scores.values() for name in scores.numbers}
    folds = [f"fold {fold}" for fold in sorted(lines[0].line.run.bank.folds)]
    heads = {fold: fold for fold in folds} | {"mean": "mean"} if len(folds) > 1 else {"mean": "mIoU"}
    heads |= {"fb": "FB-IoU"} if place.way == 1 or "fb" in known else {}
    heads |= {"fpr": "FPR"} if "fpr" in known else {}
    shots = sorted({shot for shown in lines for shot in shown.scores})
    left = columns("Method", "Backbone", "Weights", *(["Setting"] if any(shown.setting for shown in lines) else []))

    def row_of(kind: RowKind, cell: Callable[[int, str, int], Cell], *words: str) -> Row:
        return row(*words[: len(left)], *(cell(shot, n, view.digits) for shot in shots for n in heads), kind=kind)

    rows = []
    for shown in lines:
        kind: RowKind = "seen" if shown.line.setting.contaminated else "ours"
        rows.append(row_of(kind, shown.measured, *shown.words, shown.setting or MISSING))
        if paper := shown.paper:
            words = "published" if paper.verified else "published, partly unverified"
            rows.append(row_of("published", shown.printed, paper.label, paper.backbone, words, MISSING))
            if paper.comparable:
                rows.append(row_of("difference", shown.apart, "difference", MISSING, MISSING, MISSING))
    right = [column for shot in shots for column in columns(*heads.values(), group=f"{shot}-shot", numeric=True)]
    plain, papers = [shown.line for shown in lines], [shown.paper for shown in lines if shown.paper is not None]
    return Table(
        title=title(place),
        columns=(*left, *right),
        rows=ranked(rows, [*left, *right], view.digits),
        lead=lead(place, plain, why, view.lens),
        notes=notes(place, plain, papers, with_intervals=view.intervals, with_published=view.published),
    )


def span_cell(span: Span | None) -> Cell:
    """As printed by the source; a range where sources disagree; ~ where nobody read it."""
    if span is None:
        return Cell(MISSING)
    low, high = (f"{v:.1f}" if round(v, 1) == v else f"{v:.2f}" for v in (span.low, span.high))
    text = low if low == high else f"{low}–{high}"
    return Cell(text if span.verified else f"~{text}", span.middle / 100)


def _class_table(place: Place, lines: Sequence[Shown], why: str, view: View) -> Table:
    bank = lines[0].line.run.bank
    heads = [column for shown in lines for column in columns(
        *(f"{shot}-shot" for shot in shown.scores), group=", ".join(filter(None, (*shown.words, shown.setting))),
        numeric=True,
    )]  # fmt: skip
    classes = [(str(fold), bank.class_names.get(c, str(c)), f"class {c}") for fold in sorted(bank.folds)
               for c in bank.folds[fold]]  # fmt: skip
    rows = [
        row(fold, name, *(shown.measured(shot, key, view.digits) for shown in lines for shot in shown.scores))
        for fold, name, key in [*classes, (MISSING, "mean", "mean")]
    ]
    plain = [shown.line for shown in lines]
    return Table(
        title=f"{title(place)}, by class",
        columns=(*columns("Fold", "Class"), *heads),
        rows=tuple(rows),
        lead=lead(place, plain, why, view.lens),
        notes=notes(place, plain, [], with_intervals=view.intervals, with_published=False),
    )
