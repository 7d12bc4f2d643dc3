"""`fssbench compare`: which differences between results are real, by pair and by class, and where they are largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fssbench.errors import RecordError, UsageError
from fssbench.reports.entries.lines import method_label, weights_label
from fssbench.reports.entries.results import Result, episodes_of
from fssbench.reports.entries.uncertainty import SEED
from fssbench.reports.tables.remarks import title
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
