"""Tables for a terminal: as wide as it is, notes below. Text from records is printed as it is, never as markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from fssbench.reports.tables.model import Cell, Row, Table


def to_terminal(tables: Sequence[Table], console: Console) -> None:
    """Print all tables, one after the other; one that is too wide in parts, group of columns by group."""
    for table in tables:
        grids = [_grid(table, range(len(table.columns)))]
        wanted = Measurement.get(console, console.options.update(width=10_000), grids[0]).maximum
        if wanted > console.width and len(table.groups) > 2:
            grids = [_grid(table, part) for part in _parts(table)]
        lead = [Text(_plain(" ".join(table.lead)), style="dim")] if table.lead else []
        notes = [Text(f"  {_plain(note)}", style="dim") for note in table.notes]
        console.print(Group(Text(_plain(table.title), style="bold"), *lead, *grids, *notes, Text("")))


def _parts(table: Table) -> list[list[int]]:
    """The columns of each group, the ones without a group (names) before them."""
    names = [i for i, column in enumerate(table.columns) if not column.group]
    groups = dict.fromkeys(column.group for column in table.columns if column.group)
    return [[*names, *(i for i, c in enumerate(table.columns) if c.group == group)] for group in groups]


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
