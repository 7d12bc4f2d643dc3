"""Our order of methods beside the papers'."""

from __future__ import annotations

from fssbench.reports.entries.lines import DATASETS, title
from fssbench.reports.studies.agreement import Agreement
from fssbench.reports.tables.model import Cell, Column, Row, Table, number
from fssbench.reports.tables.remarks import listed


def agreement_table(found: Agreement, digits: int = 1) -> Table:
    """Methods, best of ours first; below them Spearman's rank correlation with its interval."""
    first = found.results[0]
    papers = DATASETS.get(found.papers_dataset, found.papers_dataset)
    rows = [
        Row((
            Cell(each.name),
            number(each.ours, digits),
            Cell(f"{each.our_rank:g}"),
            Cell(("" if each.verified else "~") + f"{100 * each.paper:.{digits}f}"),
            Cell(f"{each.paper_rank:g}"),
            Cell(each.backbone),
        ))
        for each in found.standings
    ]  # fmt: skip
    ours, theirs = "measured", f"papers, {papers}"
    notes = [
        f"Spearman's rank correlation: {found.spearman:.2f} (95 % interval over test images: {found.low:.2f} to "
        f"{found.high:.2f}; that of another training, or of the papers' numbers, is not in it).",
    ]
    if not found.as_published:
        notes.append("~ unverified: from memory.")
    if found.left_out:
        notes.append(f"Without a number in the papers: {listed(found.left_out)}.")
    return Table(
        title=f"{title(first.place)}, {first.shot}-shot: our order and the papers'",
        columns=(
            Column("Method", numeric=False),
            Column("mIoU", ours),
            Column("rank", ours),
            Column("mIoU", theirs),
            Column("rank", theirs),
            Column("backbone", theirs, numeric=False),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )
