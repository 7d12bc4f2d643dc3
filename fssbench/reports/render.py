"""Results in a format by its name."""

from __future__ import annotations

from collections.abc import Sequence

from fssbench.errors import UsageError, unknown_name
from fssbench.reports.entries.results import Result
from fssbench.reports.formats.html import to_html
from fssbench.reports.formats.latex import to_latex
from fssbench.reports.formats.markdown import to_markdown
from fssbench.reports.formats.plain import tables_to_csv, to_csv, to_json
from fssbench.reports.papers.paper import Paper
from fssbench.reports.tables.data import document, flat_rows
from fssbench.reports.tables.layouts import View, class_tables, fold_tables
from fssbench.reports.tables.model import Table
from fssbench.reports.tables.paper import paper_data, paper_tables

_TABLES = {"markdown": to_markdown, "latex": to_latex, "html": to_html, "csv": tables_to_csv}


def render(name: str, results: Sequence[Result], view: View, *, per_class: bool = False) -> str:
    """The results as `markdown`, `latex`, `html`, `csv` or `json`. Equal results give equal bytes."""
    if per_class and view.published:
        raise UsageError("--with-published: no source prints IoU by class. Leave out --per-class, or this.")
    if name == "json":
        return to_json(document(results, view, per_class=per_class))
    if name == "csv":
        return to_csv(flat_rows(results, view, per_class=per_class))
    return render_tables(name, class_tables(results, view) if per_class else fold_tables(results, view))


def render_paper(name: str, paper: Paper, results: Sequence[Result], digits: int = 1) -> str:
    """A paper's tables in a format by its name; `csv` and `json` have one entry a cell."""
    if name in ("csv", "json"):
        return (to_json if name == "json" else to_csv)(paper_data(paper, results))
    return render_tables(name, paper_tables(paper, results, digits))


def render_tables(name: str, tables: Sequence[Table]) -> str:
    """Tables as `markdown`, `latex`, `html` or `csv`."""
    if name not in _TABLES:
        raise UsageError(unknown_name("format", name, [*_TABLES, "json"]))
    return _TABLES[name](tables)
