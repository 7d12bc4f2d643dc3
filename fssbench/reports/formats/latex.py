"""Tables for a paper: LaTeX with booktabs, best bold, second underlined (`templates/report.tex`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fssbench.reports.tables.model import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "–": "--",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    **{sign: f"\\{sign}" for sign in "{}$&#%_"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # after a line's end they would be its options
}


def to_latex(tables: Sequence[Table], *, whole: bool = False) -> str:
    """All tables, one after the other, for a document that has the packages of the first line; or as one of its own."""
    return _environment().get_template("report.tex").render(tables=tables, whole=whole)


def _environment() -> Environment:
    """Every text that a template prints is escaped: one from a record cannot be a command."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=_escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _escape(value: object) -> str:
    return re.sub(r"""[]\\{}$&#%_^~<>|"±–×Δ[*]""", lambda m: _SPECIAL[m.group()], " ".join(str(value).split()))
