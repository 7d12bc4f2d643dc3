"""What a table is, whatever it is printed as: columns in groups, rows of cells, notes. No format knows a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fssbench.scoring.paired import Difference

MISSING = "-"

RowKind = Literal["ours", "seen", "published", "difference"]  # "seen": trained on tested classes


@dataclass(frozen=True)
class Column:
    """A column; neighbours of the same `group` stand under one heading."""

    title: str
    group: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """What is printed. `value` is what it is ranked by; `rank` 1 is the best of its column, 2 the second."""

    text: str = ""
    value: float | None = None
    rank: int = 0
    measured: bool = False  # by us, in a row of published numbers


@dataclass(frozen=True)
class Row:
    """A row. Published numbers and differences are never ranked."""

    cells: tuple[Cell, ...]
    kind: RowKind = "ours"


def row(*cells: Cell | str, kind: RowKind = "ours") -> Row:
    """A row, its words as cells without a value."""
    return Row(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells), kind)


def columns(*titles: str, group: str = "", numeric: bool = False) -> tuple[Column, ...]:
    """Columns of words, or of numbers, under one heading."""
    return tuple(Column(title, group, numeric) for title in titles)


@dataclass(frozen=True)
class Table:
    """A table with everything that must be said about it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    lead: tuple[str, ...] = ()  # sentences above: what was measured, and why it is a table of its own
    notes: tuple[str, ...] = ()  # sentences below

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over neighbouring columns, with how many columns each spans."""
        return [(group, len([*same])) for group, same in groupby(column.group for column in self.columns)]


def number(
    value: float | None,
    digits: int = 1,
    spread: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Cell:
    """A fraction as per cent; `spread` (also a fraction) follows with ±, an interval in brackets.

    >>> number(0.3642).text, number(0.3642, spread=0.011).text, number(None).text
    ('36.4', '36.4 ± 1.1', '-')
    >>> number(0.3642, interval=(0.351, 0.377)).text
    '36.4 [35.1, 37.7]'
    """
    if value is None:
        return Cell(MISSING)
    text = f"{100 * value:.{digits}f}"
    if spread is not None:
        text += f" ± {100 * spread:.{digits}f}"
    if interval is not None:
        text += f" [{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"
    return Cell(text, value)


def difference(value: float | None, digits: int = 1) -> Cell:
    """A difference of fractions, in points of per cent, with its sign.

    >>> difference(-0.0123).text
    '-1.2'
    """
    return Cell(MISSING if value is None else f"{100 * value:+.{digits}f}", value)


def change(found: Difference | None, digits: int = 1) -> Cell:
    """A paired difference with its interval."""
    if found is None:
        return Cell(MISSING)
    bounds = f" [{100 * found.low:+.{digits}f}, {100 * found.high:+.{digits}f}]"
    return Cell(difference(found.difference, digits).text + bounds, found.difference)


def ranked(rows: Sequence[Row], columns: Sequence[Column], digits: int = 1) -> tuple[Row, ...]:
    """Mark the best and the second best of every numeric column, among our rows, as they are printed (ties share)."""
    marks: dict[tuple[int, int], int] = {}
    ours = [i for i, row in enumerate(rows) if row.kind == "ours"]
    for j, column in enumerate(columns):
        shown = {
            i: round(100 * v, digits) for i in ours if column.numeric and (v := rows[i].cells[j].value) is not None
        }
        best = sorted(set(shown.values()), reverse=True)[:2] if len(shown) > 1 else []
        marks |= {(i, j): best.index(v) + 1 for i, v in shown.items() if v in best}
    return tuple(
        replace(row, cells=tuple(replace(cell, rank=marks.get((i, j), 0)) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(rows)
    )
