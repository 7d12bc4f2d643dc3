"""A comparison as tables: pairs; then for each pair its classes, and the episodes where the two differ most."""

from __future__ import annotations

from fssbench.reports.studies.comparison import LEVEL, Comparison, Pair
from fssbench.reports.tables.model import MISSING, Cell, Column, Row, Table, difference, number
from fssbench.reports.tables.remarks import listed
from fssbench.scoring.paired import Difference

MOST_DETAILS = 10  # pairs beyond which classes and episodes are left to --json


def comparison_tables(found: Comparison, digits: int = 1, *, ranks: bool = False) -> list[Table]:
    """Ranks, and unless only these are wanted pairs; then for each its classes, and where the two differ most."""
    if ranks and found.ranks:
        return [_rank_table(found, digits)]
    tables = [*([_rank_table(found, digits)] if found.ranks else []), _pair_table(found, digits)]
    for pair in found.pairs if len(found.pairs) <= MOST_DETAILS else ():
        tables += [_class_table(found, pair, digits), _episode_table(found, pair, digits)]
    return tables


def _rank_table(found: Comparison, digits: int) -> Table:
    order = sorted(range(len(found.names)), key=lambda i: -found.values[i])
    rows = [
        Row((
            Cell(found.names[i]),
            number(found.values[i], digits),
            Cell(str(low) if low == high else f"{low} to {high}"),
        ))
        for i in order
        for low, high in [found.ranks[i]]
    ]  # fmt: skip
    return Table(
        title=f"{found.title}: ranks",
        columns=(Column("Result", numeric=False), Column("mIoU"), Column("rank")),
        rows=tuple(rows),
        notes=(
            "Rank: from 1 + the number of significantly better results to n - the number of significantly worse ones, "
            "at 5 % after Holm's correction over all pairs.",
        ),
    )


def _pair_table(found: Comparison, digits: int) -> Table:
    texts = ("First", "Second")
    numbers = ("first", "second", "difference", *(f"fold {fold}" for fold in found.folds), "p", "p (Holm)",
               "Cohen's d", "better on", "classes won : lost")  # fmt: skip
    rows = [
        Row((
            Cell(pair.first),
            Cell(pair.second),
            number(pair.overall.first, digits),
            number(pair.overall.second, digits),
            _change(pair.overall, digits),
            *(difference(pair.folds[fold].difference, digits) for fold in found.folds),
            Cell(_p(pair.overall.p_value)),
            Cell(_p(pair.overall_p)),
            Cell(f"{pair.effect.cohen_d:+.2f}"),
            Cell(f"{100 * pair.effect.better:.0f} %"),
            Cell(f"{len(pair.classes_won(1))} : {len(pair.classes_won(-1))}"),
        ))
        for pair in found.pairs
    ]  # fmt: skip
    over = "classes" if found.by_class else "folds"
    named = listed([str(f) for f in found.folds])
    only = f"{' of folds' if found.by_class else ''} {named} only"
    mean = f"mean over {over}{'' if found.every_fold else only}"
    return Table(
        title=f"{found.title}: paired comparison",
        columns=(*(Column(t, numeric=False) for t in texts), *(Column(t) for t in numbers)),
        rows=tuple(rows),
        lead=(f"mIoU in %, {mean}; difference is first minus second.",),
        notes=(
            "Tests are paired and clustered by image; p (Holm) is corrected for the number of pairs. Brackets: the "
            "interval at the level at which Holm's procedure tests that pair (95 % for one pair): without 0 just where "
            "p (Holm) is below 0.05.",
            "Cohen's d: mean difference of IoU over its standard deviation, by query image. Better on: share of "
            "episodes, ties half. Classes won or lost: significant at 5 % after Holm's correction over the classes of "
            "all pairs.",
            *(_verdict(pair) for pair in found.pairs),
        ),
    )


def _verdict(pair: Pair) -> str:
    if pair.overall_p >= LEVEL:
        return f"{pair.first} and {pair.second}: no significant difference on these episodes."
    better, worse = (pair.first, pair.second) if pair.overall.difference > 0 else (pair.second, pair.first)
    if pair.one_training:
        return (
            f"The weights of {better} are better than those of {worse}; how much other trainings differ is not known."
        )
    return f"{better} is better than {worse}."


def _class_table(found: Comparison, pair: Pair, digits: int) -> Table:
    rows = [
        Row((
            Cell(found.class_names.get(c, str(c))),
            number(each.first, digits),
            number(each.second, digits),
            _change(each, digits),
            Cell(_p(pair.class_p[c])),
            Cell("first" if c in pair.classes_won(1) else "second" if c in pair.classes_won(-1) else MISSING),
        ))
        for c, each in sorted(pair.classes.items(), key=lambda item: -item[1].difference)
    ]  # fmt: skip
    heads = ("first", "second", "difference", "p (Holm)")
    return Table(
        title=f"By class: {pair.first} against {pair.second}",
        columns=(Column("Class", numeric=False), *(Column(h) for h in heads), Column("better", numeric=False)),
        rows=tuple(rows),
    )


def _episode_table(found: Comparison, pair: Pair, digits: int) -> Table:
    rows = [
        Row((
            Cell(f"{row['fold']} / {row['run']} / {row['episode']}"),
            Cell(found.class_names.get(int(row["class_id"]), str(row["class_id"]))),
            Cell(str(row["query"])),
            Cell(str(row["supports"])),
            number(float(row["first"]), digits),
            number(float(row["second"]), digits),
            difference(float(row["change"]), digits),
        ))
        for row in pair.extremes.to_dict("records")
    ]  # fmt: skip
    texts = ("Fold / run / episode", "Class", "Query", "Supports")
    return Table(
        title=f"Largest differences: {pair.first} against {pair.second}",
        columns=(*(Column(t, numeric=False) for t in texts), *(Column(h) for h in ("first", "second", "difference"))),
        rows=tuple(rows),
    )


def _change(each: Difference, digits: int) -> Cell:
    cell = difference(each.difference, digits)
    return Cell(f"{cell.text} [{100 * each.low:+.{digits}f}, {100 * each.high:+.{digits}f}]", cell.value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
