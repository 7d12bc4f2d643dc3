"""Tables as GitHub-flavoured markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fssbench.reports.tables.model import Cell, Column, Row, Table


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables, one after the other."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    heads = [_heading(column, table.columns[i - 1] if i else None) for i, column in enumerate(table.columns)]
    cells = [[_cell(cell, row) for cell in row.cells] for row in table.rows]
    widths = [max(3, *(len(line[j]) for line in [heads, *cells])) for j in range(len(heads))]
    rule = [("-" * (w - 1) + ":" if c.numeric else "-" * w) for w, c in zip(widths, table.columns, strict=True)]
    lines = [_line(heads, widths, table), "| " + " | ".join(rule) + " |"]
    lines += [_line(row, widths, table) for row in cells]
    parts = [f"### {_escape(table.title)}", " ".join(_escape(sentence) for sentence in table.lead), "\n".join(lines)]
    if table.notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in table.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(column: Column, before: Column | None) -> str:
    """Markdown has one row of headings: the first column of a group carries the group's name."""
    new_group = column.group and (before is None or before.group != column.group)
    return _escape(f"{column.group}: {column.title}" if new_group else column.title)


def _cell(cell: Cell, row: Row) -> str:
    text = _escape(cell.text)
    if row.kind != "ours" and not cell.measured and text:
        return f"*{text}*"
    return f"**{text}**" if cell.rank == 1 else text


def _line(cells: Sequence[str], widths: Sequence[int], table: Table) -> str:
    padded = [
        cell.rjust(width) if column.numeric else cell.ljust(width)
        for cell, width, column in zip(cells, widths, table.columns, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"


def _escape(text: str) -> str:
    """Text from a record cannot start a column, a line, a tag, a link or an image; what cannot is left as it is."""
    safe = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.split()))
    safe = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", safe)
    return re.sub(r"([\\|*`\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", safe)
