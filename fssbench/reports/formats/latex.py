"""Tables for a paper: LaTeX with booktabs, best bold, second underlined."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fssbench.reports.tables.model import Cell, Row, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
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
}


def to_latex(tables: Sequence[Table]) -> str:
    """All tables, one after the other; they need `\\usepackage{booktabs,graphicx}` and, for quotes, T1 fonts."""
    return "% needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,graphicx}\n" + "\n".join(
        _table(table) for table in tables
    )


def document(tables: Sequence[Table]) -> str:
    """The same as a document of its own."""
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    return head + to_latex(tables) + "\\end{document}\n"


def _table(table: Table) -> str:
    columns = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{_escape(table.title)}. {' '.join(_escape(sentence) for sentence in table.lead)}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_headings(table),
        r"\midrule",
        *(_row(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\\{{\footnotesize {_escape(note)}}}" for note in table.notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _headings(table: Table) -> list[str]:
    """Groups over their columns with a rule below each, then the columns."""
    titles = " & ".join(_escape(column.title) for column in table.columns) + r" \\"
    if not any(name for name, _ in table.groups):
        return [titles]
    spans, rules, start = [], [], 1
    for name, width in table.groups:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(spans) + r" \\", "".join(rules), titles]


def _row(row: Row) -> str:
    return " & ".join(_cell(cell, row) for cell in row.cells) + r" \\"


def _cell(cell: Cell, row: Row) -> str:
    text = _escape(cell.text)
    if row.kind != "ours" and not cell.measured and text:
        return rf"\textit{{{text}}}"
    return rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text


def _escape(text: str) -> str:
    """Text from a record cannot be a command. Brackets and stars are shielded: after a line's end they would be its
    options."""
    safe = re.sub(r"""[\\{}$&#%_^~<>|"±–×Δ]""", lambda m: _SPECIAL[m.group()], " ".join(text.split()))
    return safe.replace("[", "{[}").replace("]", "{]}").replace("*", "{*}")
