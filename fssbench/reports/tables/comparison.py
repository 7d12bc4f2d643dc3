"""A comparison as tables: pairs; then for each pair its classes, and the episodes where the two differ most."""

from __future__ import annotations

from fssbench.reports.studies.comparison import LEVEL, Comparison, Pair
from fssbench.reports.tables.model import MISSING, Table, change, columns, difference, number, row
from fssbench.reports.tables.remarks import listed

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
    best_first = sorted(zip(found.names, found.values, found.ranks, strict=True), key=lambda one: -one[1])
    rows = [
        row(name, number(value, digits), str(low) if low == high else f"{low} to {high}")
        for name, value, (low, high) in best_first
    ]
    note = (
        "Rank: from 1 + the number of significantly better results to n - the number of significantly worse ones, "
        "at 5 % after Holm's correction over all pairs."
    )
    heads = (*columns("Result"), *columns("mIoU", "rank", numeric=True))
    lead = (f"mIoU in %; bank {found.fingerprint[:12]}.",)
    return Table(f"{found.title}: ranks", heads, tuple(rows), lead=lead, notes=(note,))


def _pair_table(found: Comparison, digits: int) -> Table:
    heads = ("first", "second", "difference", *(f"fold {fold}" for fold in found.folds), "p", "p (Holm)",
             "Cohen's d", "better on", "classes won : lost")  # fmt: skip
    rows = [
        row(
            pair.first, pair.second, number(pair.overall.first, digits), number(pair.overall.second, digits),
            change(pair.overall, digits), *(difference(pair.folds[fold].difference, digits) for fold in found.folds),
            _p(pair.overall.p_value), _p(pair.overall_p), f"{pair.effect.cohen_d:+.2f}",
            f"{100 * pair.effect.better:.0f} %", f"{len(pair.classes_won(1))} : {len(pair.classes_won(-1))}",
        )
        for pair in found.pairs
    ]  # fmt: skip
    over = "classes" if found.by_class else "folds"
    only = f"{' of folds' if found.by_class else ''} {listed([str(f) for f in found.folds])} only"
    mean = f"mean over {over}{'' if found.every_fold else only}"
    return Table(
        title=f"{found.title}: paired comparison",
        columns=(*columns("First", "Second"), *columns(*heads, numeric=True)),
        rows=tuple(rows),
        lead=(f"mIoU in %, {mean}; bank {found.fingerprint[:12]}; difference is first minus second.",),
        notes=(
            "Tests are paired and clustered by image; p (Holm) is corrected for the number of pairs. Brackets: the "
            "interval at the level at which Holm's procedure tests that pair (95 % for one pair): without 0 just where "
            "p (Holm) is below 0.05.",
            "Cohen's d: mean difference of IoU over its standard deviation, by query image. Better on: share of "
            "episodes, ties half. Classes won or lost: significant at 5 % after Holm's correction over the classes of "
            "all pairs.",
            *map(_verdict, found.pairs),
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
    better = {c: word for word, sign in (("first", 1), ("second", -1)) for c in pair.classes_won(sign)}
    rows = [
        row(
            found.class_names.get(c, str(c)), number(each.first, digits), number(each.second, digits),
            change(each, digits), _p(pair.class_p[c]), better.get(c, MISSING),
        )
        for c, each in sorted(pair.classes.items(), key=lambda item: -item[1].difference)
    ]  # fmt: skip
    heads = columns("first", "second", "difference", "p (Holm)", numeric=True)
    title = f"By class: {pair.first} against {pair.second}"
    return Table(title, (*columns("Class"), *heads, *columns("better")), tuple(rows))


def _episode_table(found: Comparison, pair: Pair, digits: int) -> Table:
    rows = [
        row(
            f"{each['fold']} / {each['run']} / {each['episode']}",
            found.class_names.get(int(each["class_id"]), str(each["class_id"])), each["query"], each["supports"],
            number(each["first"], digits), number(each["second"], digits), difference(each["change"], digits),
        )
        for each in pair.extremes.to_dict("records")
    ]  # fmt: skip
    texts = columns("Fold / run / episode", "Class", "Query", "Supports")
    title = f"Largest differences: {pair.first} against {pair.second}"
    return Table(title, (*texts, *columns("first", "second", "difference", numeric=True)), tuple(rows))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
