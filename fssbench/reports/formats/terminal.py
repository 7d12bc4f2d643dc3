"""Tables for a terminal: as wide as it is, notes below. Text from records is printed as it is, never as markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from fssbench.reports.tables.model import Cell, Row, Table


def to_terminal(tables: Sequence[Table], console: Console) -> None:
    """Print all tables, one after the other."""
    for table in tables:
        console.print(_table(table))


def _table(table: Table) -> Group:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=None)
    grouped = any(column.group for column in table.columns)
    for i, column in enumerate(table.columns):
        new_group = column.group and (i == 0 or table.columns[i - 1].group != column.group)
        group = column.group if new_group else ""
        grid.add_column(
            Text(_plain(f"{group}\n{column.title}" if grouped else column.title)),
            justify="right" if column.numeric else "left",
            vertical="bottom",
            no_wrap=column.numeric,
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(_cell(cell, row) for cell in row.cells))
    lead = [Text(_plain(" ".join(table.lead)), style="dim")] if table.lead else []
    notes = [Text(f"  {_plain(note)}", style="dim") for note in table.notes]
    return Group(Text(_plain(table.title), style="bold"), *lead, grid, *notes, Text(""))


def _cell(cell: Cell, row: Row) -> Text:
    style = "bold" if cell.rank == 1 else "" if row.kind == "ours" else "italic dim"
    return Text(_plain(cell.text), style=style)


def _plain(text: str) -> str:
    """Without what a terminal would act upon."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
