"""Rows and documents for other programs: CSV and strict JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from fssbench.reports.tables.model import MISSING, Table

_RISKY = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[-+][\d.]+( \[[-+\d., ]+\])?")  # a difference, with its interval


def to_json(value: Any) -> str:
    """Strict JSON with a line's end."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, a column for every name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def tables_to_csv(tables: Sequence[Table]) -> str:
    """The cells of tables as they are printed, a row each; the first column names the table."""
    return to_csv([
        {"table": table.title, **{
            f"{column.group} {column.title}".strip(): None if cell.text == MISSING else cell.text
            for column, cell in zip(table.columns, row.cells, strict=True)
        }}
        for table in tables
        for row in table.rows
    ])  # fmt: skip


def _plain(value: Any) -> Any:
    """Empty for what does not exist; a spreadsheet must not take a name for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in _RISKY and not _NUMBER.fullmatch(value) else value
