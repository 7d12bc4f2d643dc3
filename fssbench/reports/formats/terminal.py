"""Tables for a terminal: as wide as it is, notes below. Text from records is printed as it is, never as markup."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from fssbench.reports.tables.model import Cell, Row, Table


def to_terminal(tables: Sequence[Table], console: Console) -> None:
    """Print all tables, one after the other; one that is too wide in parts, group of columns by group, and as many
    columns at a time as fit."""
    for table in tables:
        whole = [*range(len(table.columns))]
        wide = _measured(_grid(table, whole), console).maximum > console.width
        parts = _parts(table) if wide and len(table.groups) > 2 else [whole]
        grids = [_grid(table, fitting) for part in parts for fitting in _fitting(table, part, console)]
        lead = [Text(_plain(" ".join(table.lead)), style="dim")] if table.lead else []
        notes = [Text(f"  {_plain(note)}", style="dim") for note in table.notes]
        console.print(Group(Text(_plain(table.title), style="bold"), *lead, *grids, *notes, Text("")))


def _parts(table: Table) -> list[list[int]]:
    """The columns of each group, the ones without a group (names) before them."""
    names = [i for i, column in enumerate(table.columns) if not column.group]
    groups = dict.fromkeys(column.group for column in table.columns if column.group)
    return [[*names, *(i for i, c in enumerate(table.columns) if c.group == group)] for group in groups]


def _fitting(table: Table, part: Sequence[int], console: Console) -> list[list[int]]:
    """The columns of a part in pieces that fit, each after the columns of names that the part begins with."""
    names = [*takewhile(lambda i: not table.columns[i].numeric, part)]
    pieces = [names]
    for i in part[len(names) :]:
        more = [*pieces[-1], i]
        if pieces[-1] != names and _measured(_grid(table, more), console).minimum > console.width:
            pieces.append(more := [*names, i])
        pieces[-1] = more
    return pieces


def _measured(grid: RichTable, console: Console) -> Measurement:
    """How wide a grid is at least, and at most, on a terminal without end."""
    return Measurement.get(console, console.options.update(width=10_000), grid)


def _grid(table: Table, chosen: Sequence[int]) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grouped = any(table.columns[i].group for i in chosen)
    before = ""
    for i in chosen:
        column = table.columns[i]
        group = column.group if column.group != before else ""
        before = column.group
        head = f"{group}\n{column.title}" if grouped else column.title
        texts = [*(row.cells[i].text for row in table.rows), *head.split("\n")]
        width = max((len(word) for text in texts for word in text.split()), default=1)
        grid.add_column(
            Text(_plain(head)),
            justify="right" if column.numeric else "left",
            vertical="bottom",
            min_width=max(3, min(width, 12)),
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(_cell(row.cells[i], row) for i in chosen))
    return grid


def _cell(cell: Cell, row: Row) -> Text:
    style = "bold" if cell.rank == 1 else "" if row.kind == "ours" or cell.measured else "italic dim"
    return Text(_plain(cell.text), style=style)


def _plain(text: str) -> str:
    """Without what a terminal would act upon."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
