"""Drops from a clean bank, and suites of data sets, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from fssbench.reports.entries.lines import DATASETS, method_label, title, weights_label
from fssbench.reports.entries.results import grouped
from fssbench.reports.studies.robustness import SUITES, Robustness, SuiteLine, by_place
from fssbench.reports.tables.model import MISSING, Cell, Table, change, columns, number, ranked, row


def robustness_tables(found: Sequence[Robustness], digits: int = 1) -> list[Table]:
    """One table a clean place and shot: rows conditions; for each method mIoU and its drop with an interval."""
    return [_robustness_table(members, digits) for members in by_place(found)]


def _robustness_table(members: Sequence[Robustness], digits: int) -> Table:
    names = list(dict.fromkeys(name for each in members for name in each.drops))
    names.sort(key=lambda name: name.startswith("mean of"))
    heads, cells = [*columns("Condition")], {"clean": [Cell("clean")], **{name: [Cell(name)] for name in names}}
    for each in members:
        setting = each.clean.setting
        group = f"{method_label(setting)}, {setting.backbone}, {weights_label(setting)}"
        heads += columns("mIoU", "drop", group=group, numeric=True)
        cells["clean"] += [number(each.miou, digits), Cell(MISSING)]
        for name in names:
            drop = each.drops.get(name)
            cells[name] += [number(drop.first if drop else None, digits), change(drop, digits)]
    place, shot = members[0].clean.place, members[0].clean.shot
    return Table(
        title=f"{title(place)}, {shot}-shot: worse photographs and masks",
        columns=tuple(heads),
        rows=tuple(row(*each) for each in cells.values()),
        lead=(f"mIoU in %; clean bank {place.fingerprint[:12]}; the worse episodes are the same ones.",),
        notes=("Drops in points, with 95 % intervals of paired differences over images.",),
    )


def suite_tables(name: str, lines: Sequence[SuiteLine], digits: int = 1) -> list[Table]:
    """One table a protocol: rows settings and shots; columns the suite's members and their mean."""
    groups = grouped(lines, lambda line: line.protocol)
    return [_suite_table(name, protocol, members, digits) for protocol, members in groups.items()]


def _suite_table(name: str, protocol: str, lines: Sequence[SuiteLine], digits: int) -> Table:
    members = [DATASETS.get(member, member) for member in SUITES[name]]
    heads = (*columns("Method", "Backbone", "Weights", "Shots"), *columns(*members, "mean", numeric=True))
    rows = []
    for line in lines:
        setting, found = line.setting, [*(line.members.get(member) for member in SUITES[name]), line.mean]
        words = (method_label(setting), setting.backbone, weights_label(setting), str(line.shot))
        numbers = [number(each.value, digits, None, (each.low, each.high)) if each else MISSING for each in found]
        rows.append(row(*words, *numbers, kind="seen" if setting.contaminated else "ours"))
    return Table(
        title=f"Suite {name}, protocol {protocol}",
        columns=heads,
        rows=ranked(rows, heads, digits),
        lead=("mIoU in %; the mean is over the data sets, each counting once.",),
        notes=(
            "Brackets: 95 % intervals over images; those of the mean take the members as independent (normal), so the "
            "chance of another training, which they share, is in them only as far as it is in the members'.",
            "A dash: not run. There is no mean while a member is missing.",
        ),
    )
