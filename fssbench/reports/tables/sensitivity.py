"""How much the choice of the support matters, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fssbench.reports.entries.lines import title
from fssbench.reports.studies.comparison import labels
from fssbench.reports.studies.sensitivity import Sensitivity
from fssbench.reports.tables.model import Table, columns, number, row


def sensitivity_tables(found: Sequence[Sensitivity], digits: int = 1) -> list[Table]:
    """For each place its results, and the standard deviation within a query class by class."""
    tables = []
    for place, group in groupby(found, key=lambda one: one.result.place):
        members = list(group)
        names = labels([one.result for one in members])
        heads = (
            "queries",
            "supports",
            "mIoU",
            "worst support",
            "best support",
            "SD within a query",
            "share of variance",
        )
        rows = [
            row(name, str(one.overall.queries), f"{one.overall.supports:g}", *(
                number(value, digits)
                for value in (one.miou, one.miou_worst, one.miou_best, one.overall.deviation, one.overall.share)
            ))
            for name, one in zip(names, members, strict=True)
        ]  # fmt: skip
        lead = f"In %; bank {place.fingerprint[:12]}; worst and best: mIoU if every query had got that support."
        whole = (*columns("Result"), *columns(*heads, numeric=True))
        tables.append(Table(f"{title(place)}: choice of the support", whole, tuple(rows), (lead,)))
        deviations = [{spread.name: spread.deviation for spread in one.classes} for one in members]
        classes = dict.fromkeys(name for each in deviations for name in each)
        by_class = [row(name, *(number(each.get(name), digits) for each in deviations)) for name in classes]
        heading = f"{title(place)}: standard deviation within a query, by class"
        tables.append(Table(heading, (*columns("Class"), *columns(*names, numeric=True)), tuple(by_class)))
    return tables
