"""`fssbench compare`: which differences between results are real, by pair and by class, and where they are largest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fssbench.errors import RecordError, UsageError, unknown_name
from fssbench.progress import Progress, quiet
from fssbench.reports.entries.lines import Entry, entries_of, method_label, title, weights_label
from fssbench.reports.entries.results import Result, episodes_of, grouped, places_of
from fssbench.scoring.clusters import holm, holm_levels, rank_intervals
from fssbench.scoring.paired import (
    Difference,
    Effect,
    Measured,
    at_level,
    effect_size,
    episode_change,
    measure,
    most_different,
    paired_differences,
)
from fssbench.scoring.rules import rules_of

LEVEL = 0.05  # what counts as significant, after Holm's correction


@dataclass(frozen=True)
class Pair:
    """Two entries, first minus second. Intervals are at the level at which Holm's procedure tests them."""

    first: str
    second: str
    overall: Difference  # of the mean over the folds that both ran
    overall_p: float  # corrected for the number of pairs
    folds: dict[int, Difference]
    classes: dict[int, Difference]
    class_p: dict[int, float]  # corrected for the number of classes of all pairs
    effect: Effect
    extremes: pd.DataFrame  # see `paired.most_different`
    one_training: bool = False  # of either

    def classes_won(self, sign: int) -> list[int]:
        """Classes in which the first (`sign` 1) or the second (-1) is significantly better."""
        return [c for c, d in self.classes.items() if d.difference * sign > 0 and self.class_p[c] < LEVEL]


@dataclass(frozen=True)
class Comparison:
    """Pairs of some entries on one bank, and where each may rank (without a baseline only: all pairs are needed)."""

    title: str
    fingerprint: str  # the bank's
    names: tuple[str, ...]
    values: tuple[float, ...]
    ranks: tuple[tuple[int, int], ...]
    class_names: dict[int, str]
    folds: tuple[int, ...]
    every_fold: bool
    by_class: bool  # the mean is over classes, not over folds
    pairs: tuple[Pair, ...]


def sets_to_compare(results: Sequence[Result], *, across_shots: bool = False) -> list[list[Result]]:
    """Results by their episodes and number of shots, where there are several; all shots together if that is wanted.

    Two results of different shots are compared because nothing else can be meant. What has nothing beside it is left
    out; if that is everything, all results are one set, which `compare` refuses by name.
    """
    sets = []
    for group in places_of(results).values():
        by_shot = [] if across_shots else grouped(group, lambda r: r.shot).values()
        alike = [each for each in by_shot if len(entries_of(each)) > 1]
        sets += alike or [each for each in [group] if len(entries_of(each)) > 1]
    return sets or [list(results)]


def compare(
    results: Sequence[Result],
    *,
    extremes: int = 5,
    against: str | None = None,
    track: Progress = quiet,
) -> Comparison:
    """Compare entries pairwise on the episodes that they share, or each with the one whose name starts as `against`.

    Raises `UsageError` for fewer than two entries, `RecordError` if they were measured on different episodes.
    """
    entries = entries_of(results)
    if len(entries) < 2:
        raise UsageError(f"expected at least two results to compare, found {len(entries)}")
    check_comparable([entry.first for entry in entries])
    bank = entries[0].first.run.bank
    shared = sorted(set.intersection(*({int(fold) for fold in r.summary.folds} for e in entries for r in e.results)))
    if not shared:
        raise RecordError("these results share no fold: nothing to compare")
    names = labels([entry.first for entry in entries])
    chosen = list(combinations(range(len(entries)), 2))
    if against is not None:
        baseline = _named(against, entries, names)
        chosen = [(i, baseline) for i in range(len(entries)) if i != baseline]
    classes = {fold: bank.folds[fold] for fold in shared}
    rules = rules_of(bank.protocol)
    measured = []
    for entry, name in track([*zip(entries, names, strict=True)], "measuring"):
        frames = [frame[frame["fold"].isin(shared)] for frame in map(episodes_of, entry.results)]
        measured.append(measure(frames, classes, rules))
        if "mean" not in measured[-1].names or not np.isfinite(measured[-1].value[measured[-1].names.index("mean")]):
            raise RecordError(f"{name} has no mean to compare: a class of the folds had no episode")
    pairs = [
        _pair(names[i], names[j], measured[i], measured[j], classes, extremes, entries[i], entries[j])
        for i, j in track(chosen, "comparing")
    ]
    pairs = _corrected(pairs)
    better = [[False] * len(entries) for _ in entries]
    for (i, j), pair in zip(chosen, pairs, strict=True):
        if pair.overall_p < LEVEL:
            winner, loser = (i, j) if pair.overall.difference > 0 else (j, i)
            better[winner][loser] = True
    return Comparison(
        title=title(entries[0].first.place),
        fingerprint=bank.fingerprint,
        names=tuple(names),
        values=tuple(float(each.value[each.names.index("mean")]) for each in measured),
        ranks=tuple(rank_intervals(better)) if against is None else (),
        class_names=bank.class_names,
        folds=tuple(shared),
        every_fold=set(shared) == set(bank.folds),
        by_class=rules.averaging == "classes",
        pairs=tuple(pairs),
    )


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Holm's correction over pairs for the means, over the classes of all pairs for classes; intervals to match."""
    overall = [pair.overall.p_value for pair in pairs]
    every = [each.p_value for pair in pairs for each in pair.classes.values()]
    class_p, class_levels = iter(holm(every)), iter(holm_levels(every, 1 - LEVEL))
    return [
        replace(
            pair,
            overall=at_level(pair.overall, level),
            overall_p=p,
            class_p={c: next(class_p) for c in pair.classes},
            classes={c: at_level(each, next(class_levels)) for c, each in pair.classes.items()},
        )
        for pair, p, level in zip(pairs, holm(overall), holm_levels(overall, 1 - LEVEL), strict=True)
    ]


def labels(results: Sequence[Result]) -> list[str]:
    """Names that tell results apart: method, backbone, weights and shot; the record's name where they do not."""
    plain = [
        f"{method_label(r.setting)}, {r.setting.backbone}, {weights_label(r.setting)}, {r.shot}-shot" for r in results
    ]
    count = Counter(plain)
    return [
        name if count[name] == 1 else f"{name} ({result.run.id})" for name, result in zip(plain, results, strict=True)
    ]


def _named(wanted: str, entries: Sequence[Entry], names: Sequence[str]) -> int:
    """The entry whose method, label or record is `wanted`. Raises `UsageError` for none, and for several."""
    word = wanted.rstrip("/").lower()
    found = [
        i
        for i, (entry, name) in enumerate(zip(entries, names, strict=True))
        if word in (entry.first.setting.method.lower(), name.lower(), *(r.run.id.lower() for r in entry.results))
        or any(source.path.as_posix().lower().endswith(word) for r in entry.results for source in r.sources)
    ]
    if not found:
        raise UsageError(unknown_name("result", wanted, names))
    if len(found) > 1:
        some = "; ".join(names[i] for i in found[:4])
        raise UsageError(f"--against {wanted}: expected one result, found {len(found)}: {some}. Name its record.")
    return found[0]


def check_comparable(results: Sequence[Result]) -> None:
    """Raises `RecordError` unless all were measured on the same episodes."""
    first = results[0]
    for other in results[1:]:
        for word, mine, theirs in (
            ("data set", first.place.dataset, other.place.dataset),
            ("protocol", first.place.protocol, other.place.protocol),
            ("bank fingerprint", first.place.fingerprint, other.place.fingerprint),
            ("way", first.place.way, other.place.way),
            ("number of episodes", first.place.episodes, other.place.episodes),
        ):
            if mine != theirs:
                raise RecordError(
                    f"{first.sources[0].path} and {other.sources[0].path} cannot be compared: their {word} differs "
                    f"({mine} and {theirs}), so they were not measured on the same episodes. Run both on one bank."
                )


def _pair(
    first: str,
    second: str,
    a: Measured,
    b: Measured,
    fold_classes: dict[int, list[int]],
    extremes: int,
    *entries: Entry,
) -> Pair:
    found = paired_differences(a, b, level=1 - LEVEL)
    classes = {c: found[f"class {c}"] for members in fold_classes.values() for c in members if f"class {c}" in found}
    change = episode_change(a.episodes, b.episodes)
    return Pair(
        first=first,
        second=second,
        overall=found["mean"],
        overall_p=found["mean"].p_value,
        folds={fold: found[f"fold {fold}"] for fold in fold_classes},
        classes=classes,
        class_p={},
        effect=effect_size(change),
        extremes=most_different(change, extremes),
        one_training=any(entry.one_training for entry in entries),
    )


def comparison_data(found: Comparison) -> dict[str, object]:
    """The comparison as plain values, for JSON; fractions."""
    return {
        "schema": 1,
        "title": found.title,
        "fingerprint": found.fingerprint,
        "results": list(found.names),
        "folds": list(found.folds),
        "every_fold": found.every_fold,
        "ranks": [
            {"result": name, "mean": value, "from": low, "to": high}
            for name, value, (low, high) in zip(found.names, found.values, found.ranks, strict=bool(found.ranks))
        ],
        "pairs": [
            {
                "one_training": pair.one_training,
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
