"""From records to results: one configuration at one shot, its folds merged and its repetitions gathered.

Nothing is ever mixed: results share a table only if bank fingerprint, protocol, way and number of episodes agree,
and records share a result only if everything that could change a number agrees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pandas as pd

from fssbench.errors import RecordError
from fssbench.records import Run, Summary, WeightsEntry, contamination, find_records, read_episodes, read_run
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import ScoringRules, rules_of

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, order=True)
class Setting:
    """Everything but the shot and the seed that tells one row of a table from another, in the order of rows."""

    method: str
    title: str
    backbone: str
    weights: str  # "imagenet", "random", "checkpoint", "authors", "external", or several
    annotation: str
    supervision: str
    config: str  # JSON, keys sorted
    input_size: str
    device: str
    precision: str
    regime: str  # JSON: what is known of the training, seed and fold excepted
    our_reading: bool
    contaminated: bool  # the checkpoint was trained on tested classes
    checkpoint: str = ""  # only where several checkpoints of one setting are in the results, and no trainings of ours


@dataclass(frozen=True, order=True)
class Place:
    """The measurement a number belongs to: results in one place can be compared."""

    dataset: str
    protocol: str
    way: int
    fingerprint: str
    protocol_hash: str
    episodes: tuple[tuple[int, int], ...]  # fold and episodes, where a run did not do all of the bank's
    lens: str = ""  # whose rules of accumulation were used, if not the bank's own


@dataclass(frozen=True)
class Source:
    """One record that a result is made of."""

    path: Path
    run: Run

    @property
    def summary(self) -> Summary:
        """The stored summary, checked."""
        return self.run.scores(self.path)


@dataclass(frozen=True)
class Result:
    """One setting at one shot and training, from one record or from several that hold different folds of it.

    `repeats` are further records of the same: the same run again, or somebody else's. Their numbers enter no mean.
    """

    place: Place
    setting: Setting
    shot: int
    seed: int
    sources: tuple[Source, ...]
    summary: Summary
    training: int = 0  # trainings that nothing but the weights tells apart are numbered, oldest first
    repeats: tuple[Source, ...] = ()

    @property
    def run(self) -> Run:
        """The first record's `run.json`; bank, protocol and method are the same in all of them."""
        return self.sources[0].run


def load_results(*roots: Path, skipped: Callable[[str], None] | None = None) -> list[Result]:
    """Every result below the folders, in an order that depends on nothing but the records.

    A record below two of them counts once. One that cannot be read is told to `skipped`, or raises `RecordError`
    where that is None. Raises `RecordError` where there is no record at all.
    """
    folders = {folder.resolve(): folder for root in reversed(roots) for folder in find_records(root)}
    if not folders:
        raise RecordError(
            f"no finished record (a folder with run.json) below {' or '.join(map(str, roots))}. Run "
            "`fssbench run METHOD` first, or name another folder."
        )
    sources = []
    problem: RecordError | None = None
    for folder in sorted(folders.values()):
        try:
            source = Source(folder, read_run(folder))
            source.summary  # noqa: B018  (checks it)
            sources.append(source)
        except RecordError as error:
            if skipped is None:
                raise
            skipped(f"skipped: {error}")
            problem = error
    if not sources and problem is not None:
        raise problem
    return gather(sources)


def gather(sources: Iterable[Source]) -> list[Result]:
    """Merge records that hold different folds of one setting, shot and training."""
    groups = grouped(sources, lambda s: (_place(s), _setting(s.run), s.run.shot, _seed(s.run)))
    results = [
        _merge(place, setting, shot, seed, training, members)
        for (place, base, shot, seed), group in groups.items()
        for setting, training, members in _by_weights(base, group)
    ]
    return sorted(results, key=lambda r: (r.place, r.setting.title.lower(), r.setting, r.shot, r.seed, r.training))


def places_of(results: Iterable[Result]) -> dict[Place, list[Result]]:
    """Results that can be compared, together."""
    return grouped(results, lambda result: result.place)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items with the same key together, in the order in which they come.

    >>> grouped(["bam", "canet", "bmm"], lambda name: name[0])
    {'b': ['bam', 'bmm'], 'c': ['canet']}
    """
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def rescore(result: Result, rules: ScoringRules, *, every_fold: bool = True) -> Summary:
    """The summary of a result under other rules, from the stored counts."""
    run = result.run
    summary = summarise(episodes_of(result), run.bank.folds, rules, every_fold=every_fold)
    return Summary.model_validate(summary)


def episodes_of(result: Result) -> pd.DataFrame:
    """All episodes of a result, ordered by fold, run and episode."""
    frames = [read_episodes(source.path) for source in result.sources]
    whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return whole.drop_duplicates(["fold", "run", "episode", "way"]).sort_values(
        ["fold", "run", "episode", "way"], ignore_index=True
    )


def numbers_of(summary: Summary) -> dict[str, float | None]:
    """A summary's numbers by the names that everything here calls them by: "mean", "fb", "fpr" (of queries that lack
    the class), "fold 0", "fold 0 fb", "class 7". Fractions; None where undefined."""
    numbers = {"mean": summary.miou, "fb": summary.fb_iou, "fpr": summary.false_positive_rate}
    for fold, part in summary.folds.items():
        numbers |= {f"fold {fold}": part.miou, f"fold {fold} fb": part.fb_iou}
        numbers |= {f"class {c}": value for c, value in part.classes.items()}
    return numbers


def _place(source: Source) -> Place:
    run, bank = source.run, source.run.bank
    counts = {int(fold): part.episodes for fold, part in source.summary.folds.items()}
    partial = tuple((fold, n) for fold, n in sorted(counts.items()) if n != bank.episodes.get(fold, n))
    protocol = bank.protocol
    words = (
        protocol.get("name", "unnamed"),
        protocol.get("corruption"),
        protocol.get("negatives") and "with negatives",
    )
    name = ", ".join(str(word) for word in words if word)
    return Place(bank.dataset, name, run.way, bank.fingerprint, bank.protocol_hash, partial)


def _setting(run: Run) -> Setting:
    kinds = sorted({_kind(entry) for entry in run.weights.values()})
    return Setting(
        method=run.method.name,
        title=run.method.title,
        our_reading=run.method.our_reading,
        config=json.dumps(run.method.config, sort_keys=True),
        backbone=run.backbone,
        input_size=run.input_size,
        weights=" and ".join(kinds),
        annotation=run.annotation,
        device=run.environment.device,
        precision=run.environment.precision,
        supervision=run.method.supervision,
        regime=_regime(run),
        contaminated=bool(contamination(run)),
    )


def _regime(run: Run) -> str:
    """What separates one training from another beside the seed, the fold and the classes that follow from it."""
    apart = {"seed", "fold", "classes", "images", "images_sha256", "note"}
    facts: dict[str, list[str]] = {}
    for entry in run.weights.values():
        if entry.regime is not None:
            for name, value in entry.regime.model_dump(exclude=apart, exclude_none=True).items():
                facts.setdefault(name, []).append(str(value))
    return json.dumps({name: " and ".join(sorted(set(values))) for name, values in facts.items()}, sort_keys=True)


def _kind(entry: WeightsEntry) -> str:
    """A checkpoint converted from its authors' file is told from one trained here."""
    foreign = entry.regime is not None and entry.regime.source != "fssbench"
    return "authors" if entry.kind == "checkpoint" and foreign else entry.kind


def _seed(run: Run) -> int:
    """The seed that repetitions differ in: of the training, if the checkpoints' cards name one, or of the run."""
    regimes = [entry.regime for entry in run.weights.values()]
    seeds = {regime.seed for regime in regimes if regime is not None and regime.seed is not None}
    return int(seeds.pop()) if len(seeds) == 1 else run.seed


def _by_weights(setting: Setting, group: list[Source]) -> list[tuple[Setting, int, list[Source]]]:
    """Records with other weights for the same fold are other trainings if they were trained here, else other settings.

    Trainings may be stored fold by fold: the oldest checkpoint of each fold belongs to the first training.
    """
    known: dict[int, list[str]] = {}
    ordered = sorted(group, key=_age)
    for source in ordered:
        for fold in source.run.folds:
            hashes = known.setdefault(fold, [])
            if _sha(source, fold) not in hashes:
                hashes.append(_sha(source, fold))
    if all(len(hashes) == 1 for hashes in known.values()):
        return [(setting, 0, group)]
    ours = all(
        entry.regime is not None and entry.regime.source == "fssbench"
        for source in group
        for entry in source.run.weights.values()
    )
    variants: dict[str | int, list[Source]] = {}
    for source in ordered:
        number = max(known[fold].index(_sha(source, fold)) for fold in source.run.folds)
        name = ", ".join(dict.fromkeys(_sha(source, fold)[:8] for fold in source.run.folds))
        variants.setdefault(number if ours else name, []).append(source)
    return [
        (setting, name, members) if isinstance(name, int) else (replace(setting, checkpoint=name), 0, members)
        for name, members in variants.items()
    ]


def _age(source: Source) -> tuple[str, str]:
    return source.run.created, source.path.as_posix()


def _sha(source: Source, fold: int) -> str:
    entry = source.run.weights.get(fold)
    return "" if entry is None else entry.sha256


def _merge(place: Place, setting: Setting, shot: int, seed: int, training: int, group: list[Source]) -> Result:
    kept = _without_repeats(group)
    again = tuple(source for source in sorted(group, key=_age) if source not in kept)
    result = Result(place, setting, shot, seed, kept, kept[0].summary, training, again)
    if len(kept) == 1:
        return result
    return replace(result, summary=rescore(result, rules_of(result.run.bank.protocol)))


def _without_repeats(group: Sequence[Source]) -> tuple[Source, ...]:
    """The fewest records that hold every fold, larger and then older ones first."""
    kept: list[Source] = []
    have: set[int] = set()
    for source in sorted(group, key=lambda s: (-len(s.run.folds), _age(s))):
        if not set(source.run.folds) <= have:
            kept.append(source)
            have |= set(source.run.folds)
    return tuple(sorted(kept, key=lambda s: (min(s.run.folds), s.path.as_posix())))
