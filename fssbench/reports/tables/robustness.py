"""Drops from a clean bank, and suites of data sets, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from fssbench.reports.entries.lines import DATASETS, method_label, title, weights_label
from fssbench.reports.studies.robustness import SUITES, Robustness, SuiteLine
from fssbench.reports.tables.model import Cell, Column, Row, Table, difference, number, ranked


def robustness_tables(found: Sequence[Robustness], digits: int = 1) -> list[Table]:
    """One table a clean place and shot: rows conditions; for each method mIoU and its drop with an interval."""
    groups: dict[tuple[object, int], list[Robustness]] = {}
    for each in found:
        groups.setdefault((each.clean.place, each.clean.shot), []).append(each)
    return [_robustness_table(members, digits) for members in groups.values()]


def _robustness_table(members: Sequence[Robustness], digits: int) -> Table:
    conditions = list(dict.fromkeys(name for each in members for name in each.drops))
    conditions.sort(key=lambda name: name.startswith("mean of"))
    columns = [Column("Condition", numeric=False)]
    for each in members:
        setting = each.clean.setting
        group = f"{method_label(setting)}, {setting.backbone}, {weights_label(setting)}"
        columns += [Column("mIoU", group), Column("drop", group)]
    rows = [Row((Cell("clean"), *(cell for each in members for cell in (number(each.miou, digits), Cell("-")))))]
    for name in conditions:
        cells = [Cell(name)]
        for each in members:
            drop = each.drops.get(name)
            cells.append(number(None if drop is None else drop.first, digits))
            bounds = "" if drop is None else f" [{100 * drop.low:+.{digits}f}, {100 * drop.high:+.{digits}f}]"
            cells.append(Cell(difference(None if drop is None else drop.difference, digits).text + bounds))
        rows.append(Row(tuple(cells)))
    place, shot = members[0].clean.place, members[0].clean.shot
    return Table(
        title=f"{title(place)}, {shot}-shot: worse photographs and masks",
        columns=tuple(columns),
        rows=tuple(rows),
        lead=(f"mIoU in %; clean bank {place.fingerprint[:12]}; the worse episodes are the same ones.",),
        notes=("Drops in points, with 95 % intervals of paired differences over images.",),
    )


def suite_table(name: str, lines: Sequence[SuiteLine], digits: int = 1) -> Table:
    """Rows settings and shots; columns the suite's members and their mean."""
    columns = [Column(head, numeric=False) for head in ("Method", "Backbone", "Weights", "Shots")]
    columns += [Column(DATASETS.get(member, member)) for member in SUITES[name]]
    columns.append(Column("mean"))
    rows = []
    for line in lines:
        intervals = [*(line.members.get(member) for member in SUITES[name]), line.mean]
        words = (method_label(line.setting), line.setting.backbone, weights_label(line.setting), str(line.shot))
        numbers = [number(i.value, digits, None, (i.low, i.high)) if i else number(None) for i in intervals]
        rows.append(Row((*map(Cell, words), *numbers), "seen" if line.setting.contaminated else "ours"))
    return Table(
        title=f"Suite {name}",
        columns=tuple(columns),
        rows=ranked(rows, columns, digits),
        lead=("mIoU in %; the mean is over the data sets, each counting once.",),
        notes=(
            "Brackets: 95 % intervals over images; those of the mean take the members as independent (normal), so the "
            "chance of another training, which they share, is in them only as far as it is in the members'.",
            "A dash: not run. There is no mean while a member is missing.",
        ),
    )
