"""`fssbench compare`: which differences between results are real, by pair and by class, and where they are largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fssbench.errors import RecordError, UsageError
from fssbench.reports.lines import method_label, weights_label
from fssbench.reports.remarks import listed, title
from fssbench.reports.results import Result, episodes_of
from fssbench.reports.tables import MISSING, Cell, Column, Row, Table, difference, number
from fssbench.reports.uncertainty import SEED
from fssbench.scoring.clusters import holm
from fssbench.scoring.paired import (
    Difference,
    Effect,
    effect_size,
    episode_change,
    most_different,
    paired_differences,
)
from fssbench.scoring.rules import rules_of

LEVEL = 0.05  # what counts as significant, after Holm's correction


@dataclass(frozen=True)
class Pair:
    """Two results, first minus second."""

    first: str
    second: str
    overall: Difference  # of the mean over the folds that both ran
    overall_p: float  # corrected for the number of pairs
    folds: dict[int, Difference]
    classes: dict[int, Difference]
    class_p: dict[int, float]  # corrected for the number of classes
    effect: Effect
    extremes: pd.DataFrame  # see `paired.most_different`

    def classes_won(self, sign: int) -> list[int]:
        """Classes in which the first (`sign` 1) or the second (-1) is significantly better."""
        return [c for c, d in self.classes.items() if d.difference * sign > 0 and self.class_p[c] < LEVEL]


@dataclass(frozen=True)
class Comparison:
    """Every pair of some results on one bank."""

    title: str
    names: tuple[str, ...]
    class_names: dict[int, str]
    folds: tuple[int, ...]
    every_fold: bool
    pairs: tuple[Pair, ...]


def compare(results: Sequence[Result], *, extremes: int = 5) -> Comparison:
    """Compare results pairwise on the episodes that they share.

    Raises `UsageError` for fewer than two results, `RecordError` if they were measured on different episodes.
    """
    if len(results) < 2:
        raise UsageError(f"expected at least two results to compare, found {len(results)}")
    _check_comparable(results)
    bank = results[0].run.bank
    shared = sorted(set.intersection(*({int(fold) for fold in r.summary.folds} for r in results)))
    if not shared:
        raise RecordError("these results share no fold: nothing to compare")
    frames = [frame[frame["fold"].isin(shared)] for frame in map(episodes_of, results)]
    names = labels(results)
    classes = {fold: bank.folds[fold] for fold in shared}
    pairs = [
        _pair(names[i], names[j], frames[i], frames[j], classes, bank.protocol, extremes)
        for i, j in combinations(range(len(results)), 2)
    ]
    corrected = holm([pair.overall.p_value for pair in pairs])
    return Comparison(
        title=title(results[0].place),
        names=tuple(names),
        class_names=bank.class_names,
        folds=tuple(shared),
        every_fold=set(shared) == set(bank.folds),
        pairs=tuple(replace(pair, overall_p=p) for pair, p in zip(pairs, corrected, strict=True)),
    )


def labels(results: Sequence[Result]) -> list[str]:
    """Names that tell results apart: method, backbone, weights and shot; the record's name where they do not."""
    plain = [
        f"{method_label(r.setting)}, {r.setting.backbone}, {weights_label(r.setting)}, {r.shot}-shot" for r in results
    ]
    return [
        name if plain.count(name) == 1 else f"{name} ({result.run.id})"
        for name, result in zip(plain, results, strict=True)
    ]


def _check_comparable(results: Sequence[Result]) -> None:
    first = results[0]
    for other in results[1:]:
        for word, mine, theirs in (
            ("data set", first.place.dataset, other.place.dataset),
            ("protocol", first.place.protocol, other.place.protocol),
            ("bank fingerprint", first.place.fingerprint, other.place.fingerprint),
            ("way", first.place.way, other.place.way),
        ):
            if mine != theirs:
                raise RecordError(
                    f"{first.sources[0].path} and {other.sources[0].path} cannot be compared: their {word} differs "
                    f"({mine} and {theirs}), so they were not measured on the same episodes. Run both on one bank."
                )


def _pair(
    first: str,
    second: str,
    a: pd.DataFrame,
    b: pd.DataFrame,
    fold_classes: dict[int, list[int]],
    protocol: dict[str, object],
    extremes: int,
) -> Pair:
    found = paired_differences(a, b, fold_classes, np.random.default_rng(SEED), rules_of(protocol))
    if "mean" not in found:
        raise RecordError(f"{first} and {second} have no mean to compare: a class of the folds had no episode")
    classes = {c: found[f"class {c}"] for members in fold_classes.values() for c in members if f"class {c}" in found}
    corrected = holm([each.p_value for each in classes.values()])
    return Pair(
        first=first,
        second=second,
        overall=found["mean"],
        overall_p=found["mean"].p_value,
        folds={fold: found[f"fold {fold}"] for fold in fold_classes},
        classes=classes,
        class_p=dict(zip(classes, corrected, strict=True)),
        effect=effect_size(a, b),
        extremes=most_different(episode_change(a, b), extremes),
    )


def comparison_tables(found: Comparison, digits: int = 1) -> list[Table]:
    """Pairs; then for each pair its classes, and the episodes where the two differ most."""
    tables = [_pair_table(found, digits)]
    for pair in found.pairs:
        tables += [_class_table(found, pair, digits), _episode_table(found, pair, digits)]
    return tables


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
    mean = "mean over folds" if found.every_fold else f"mean over folds {listed([str(f) for f in found.folds])} only"
    return Table(
        title=f"{found.title}: paired comparison",
        columns=(*(Column(t, numeric=False) for t in texts), *(Column(t) for t in numbers)),
        rows=tuple(rows),
        lead=(f"mIoU in %, {mean}; difference is first minus second, with its 95 % interval.",),
        notes=(
            "Tests are paired and clustered by image; p (Holm) is corrected for the number of pairs.",
            "Cohen's d: mean difference of IoU over its standard deviation, by query image. Better on: share of "
            "episodes, ties half. Classes won or lost: significant at 5 % after Holm's correction over classes.",
            *(_verdict(pair) for pair in found.pairs),
        ),
    )


def _verdict(pair: Pair) -> str:
    if pair.overall_p >= LEVEL:
        return f"{pair.first} and {pair.second}: no significant difference on these episodes."
    better, worse = (pair.first, pair.second) if pair.overall.difference > 0 else (pair.second, pair.first)
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


def comparison_data(found: Comparison) -> dict[str, object]:
    """The comparison as plain values, for JSON; fractions."""
    return {
        "schema": 1,
        "title": found.title,
        "results": list(found.names),
        "folds": list(found.folds),
        "every_fold": found.every_fold,
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "mean": asdict(pair.overall) | {"p_holm": pair.overall_p},
                "folds": {str(fold): asdict(each) for fold, each in pair.folds.items()},
                "classes": {
                    found.class_names.get(c, str(c)): asdict(each) | {"p_holm": pair.class_p[c]}
                    for c, each in pair.classes.items()
                },
                "effect": asdict(pair.effect),
                "won": [found.class_names.get(c, str(c)) for c in pair.classes_won(1)],
                "lost": [found.class_names.get(c, str(c)) for c in pair.classes_won(-1)],
                "episodes": pair.extremes.to_dict("records"),
            }
            for pair in found.pairs
        ],
    }
