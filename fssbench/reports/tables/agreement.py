"""Our order of methods beside the papers'."""

from __future__ import annotations

from fssbench.reports.entries.lines import DATASETS, title
from fssbench.reports.studies.agreement import Agreement
from fssbench.reports.tables.model import Table, columns, number, row
from fssbench.reports.tables.remarks import listed


def agreement_table(found: Agreement, digits: int = 1) -> Table:
    """Methods, best of ours first; below them Spearman's rank correlation with its interval."""
    first = found.results[0]
    papers = f"papers, {DATASETS.get(found.papers_dataset, found.papers_dataset)}"
    rows = [
        row(
            each.name, number(each.ours, digits), f"{each.our_rank:g}",
            f"{'' if each.verified else '~'}{100 * each.paper:.{digits}f}", f"{each.paper_rank:g}", each.backbone,
        )
        for each in found.standings
    ]  # fmt: skip
    notes = [
        f"Spearman's rank correlation: {found.spearman:.2f} (95 % interval over test images: {found.low:.2f} to "
        f"{found.high:.2f}; that of another training, or of the papers' numbers, is not in it).",
    ]
    if not all(each.verified for each in found.standings):
        notes.append("~ unverified: from memory.")
    if found.left_out:
        notes.append(f"Without a number in the papers: {listed(found.left_out)}.")
    heads = (
        *columns("Method"),
        *columns("mIoU", "rank", group="measured", numeric=True),
        *columns("mIoU", "rank", group=papers, numeric=True),
        *columns("backbone", group=papers),
    )
    name = f"{title(first.place)}, {first.shot}-shot: our order and the papers'"
    return Table(name, heads, tuple(rows), notes=tuple(notes))
