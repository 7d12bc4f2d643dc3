"""Rankings: results grouped into banks and boards, best first. Those of two fingerprints never meet in one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import pandas as pd

from fssbench.banks.workers import spread, worthwhile
from fssbench.progress import Progress, quiet
from fssbench.records import Parameters
from fssbench.reports.entries.lines import DATASETS, Entry, entries_of
from fssbench.reports.entries.results import Place, Result
from fssbench.reports.entries.scores import Scores, scores_of
from fssbench.scoring.clusters import rank_intervals
from fssbench.scoring.paired import Measured, significantly_better

ROWS = ["fold", "run", "episode", "way", "class_id", "query", "supports"]
TOGETHER = 12  # results on the same episodes that one process measures: what they share is made and sent once
WORTH = 128  # results for each process: below that starting it takes longer than it saves
Group = tuple[Result, ...]
Numbers = tuple[Scores, Measured | None, pd.DataFrame]
TRAINED = {"external": "external", "authors": "authors", "checkpoint": "trained"}


@dataclass(frozen=True, eq=False)
class Ranked(Entry):
    """An entry with its numbers. `slug` is safe in a path and a URL; `rank` only where all folds were run, and no
    tested class was trained on. `ranks` is what the pairwise tests leave open."""

    slug: str
    scores: Scores
    rows: pd.DataFrame  # which episodes: `ROWS`, in the order of `scores.ious`
    rank: int | None = None
    ranks: tuple[int, int] | None = None
    beats: frozenset[str] = frozenset()  # slugs of those that it is significantly better than
    tested: bool = False  # whether `ranks` and `beats` were looked for
    measured: Measured | None = None  # the mean, for tests against others; None without intervals

    @property
    def title(self) -> str:
        return self.run.method.title or self.run.method.name

    @property
    def trained(self) -> str:
        """Where the weights are from: "trained" here, by the "authors", "untrained", or "external" (not known)."""
        kinds = self.first.setting.weights.split(" and ")
        return next((TRAINED[kind] for kind in ("external", "authors", "checkpoint") if kind in kinds), "untrained")

    @property
    def origin(self) -> str:
        """Whose code: "external" predictions, "reading" of a paper without code, or "reproduced"."""
        if self.trained == "external":
            return "external"
        return "reading" if self.run.method.our_reading else "reproduced"

    @property
    def contaminated(self) -> bool:
        """Whether the checkpoint was trained on tested classes."""
        return self.first.setting.contaminated

    @property
    def parameters(self) -> Parameters | None:
        """How many parameters the method has and how many were trained; None in records that do not say."""
        return self.run.parameters

    @property
    def milliseconds(self) -> float | None:
        """What an episode took the first training, its share of what jobs did together included; None if not known.

        Records without `parameters` are from a version that gave each job the seconds of all that ran beside it.
        """
        runs = [source.run for source in self.first.sources]
        if any(run.parameters is None or not run.seconds for run in runs):
            return None
        return 1000 * sum(sum(run.seconds.values()) for run in runs) / max(1, self.first.summary.episodes)

    @property
    def supervision(self) -> str:
        """What the support says about its object, and what the method asks for besides."""
        run = self.run
        kinds = [run.annotation] if run.annotation != "mask" else [run.method.supervision]
        if run.method.auxiliary_images:
            kinds.append(f"{run.method.auxiliary_images} extra images")
        return " + ".join(kinds)


@dataclass(frozen=True)
class Board:
    """One ranking: one bank, one protocol, one way, one shot; best first unless another order was asked for.

    `part` gives fold and number of episodes where runs stopped short of the bank's; empty for whole ones.
    """

    slug: str
    way: int
    shot: int
    part: tuple[tuple[int, int], ...]
    entries: tuple[Ranked, ...]

    @property
    def ranked(self) -> int:
        return sum(entry.rank is not None for entry in self.entries)

    @property
    def best_first(self) -> bool:
        """Whether the entries stand by their means; without any mean they stand by name."""
        means = [value for entry in self.entries if (value := entry.scores.miou.value) is not None]
        return bool(means) and means == sorted(means, reverse=True)


@dataclass(frozen=True)
class Bank:
    """All boards of one fingerprint and protocol."""

    slug: str
    dataset: str
    protocol: str
    fingerprint: str
    protocol_hash: str
    fold_numbers: tuple[int, ...]
    classes: int
    episodes: int
    boards: tuple[Board, ...]
    namesakes: int = 0  # other banks of this data set: never to be compared with this one

    @property
    def title(self) -> str:
        """The data set's name as the field writes it."""
        return DATASETS.get(self.dataset, self.dataset)

    @property
    def folds(self) -> int:
        return len(self.fold_numbers)


def collect(
    results: Iterable[Result],
    with_intervals: bool = True,
    track: Progress = quiet,
    workers: int | None = 1,
    sort: str = "mean",
) -> tuple[Bank, ...]:
    """Results as banks with their boards, in an order that depends on nothing but the results.

    `sort`: the order on a board, by `mean` (the best first), `name`, or `date` (the newest first); ranks stay the same.
    `workers`: processes that measure; None for as many as there are cores, and as the results are worth.
    """
    groups = sorted((entry.results for entry in entries_of(list(results))), key=_episodes_key)
    if workers is None:
        workers = worthwhile(len(groups), WORTH)
    alike = [list(each) for _, each in groupby(groups, key=_episodes_key)]
    parts = [each[at : at + TOGETHER] for each in alike for at in range(0, len(each), TOGETHER)]
    found = spread(_numbers, with_intervals, parts, "measuring", workers=workers, progress=track, chunk=1)
    held: dict[tuple[Place, int], list[pd.DataFrame]] = {}
    entries = [
        _entry(group, held, *numbers)
        for part, of_part in zip(parts, found, strict=True)
        for group, numbers in zip(part, of_part, strict=True)
    ]
    entries = _unique(sorted(entries, key=_bank_key))
    banks = [_bank(list(group), with_intervals, sort) for _, group in groupby(entries, key=_bank_key)]
    names = [bank.dataset for bank in banks]
    return tuple(replace(bank, namesakes=names.count(bank.dataset) - 1) for bank in banks)


def slug(*words: object) -> str:
    """Words as a name that is safe in a path and a URL.

    >>> slug("PASCAL-5i", "<script>", 1, "shot")
    'pascal-5i-script-1-shot'
    """
    text = "-".join(str(word) for word in words).lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:80] or "unnamed"


def _bank_key(entry: Ranked) -> tuple[str, str, str, str]:
    place = entry.first.place
    return place.dataset, place.protocol, place.fingerprint, place.protocol_hash


def _episodes_key(results: Group) -> tuple[Any, ...]:
    """Results with the same key are on the same episodes, most likely."""
    place = results[0].place
    return place.dataset, place.protocol, place.fingerprint, place.protocol_hash, place.way, results[0].shot


def _numbers(with_intervals: bool, groups: Sequence[Group]) -> list[Numbers]:
    """Scores, what tests need of the mean, and the rows, which results on the same episodes share."""
    found: list[Numbers] = []
    for results in groups:
        scores, measured, episodes = scores_of(results, with_intervals)
        rows = _shared(episodes[ROWS], [other for _, _, other in found])
        if measured is not None:
            at = [i for i, name in enumerate(measured.names) if name == "mean"]
            measured = replace(
                measured, episodes=rows, names=("mean",) * len(at), value=measured.value[at],
                influence=measured.influence[:, at], between=measured.between[at],
            )  # fmt: skip
        found.append((scores, measured, rows))
    return found


def _entry(
    results: Group,
    held: dict[tuple[Place, int], list[pd.DataFrame]],
    scores: Scores,
    measured: Measured | None,
    rows: pd.DataFrame,
) -> Ranked:
    """`held` are the rows of earlier entries: those on the same episodes share theirs, so that thousands fit."""
    same = held.setdefault((results[0].place, results[0].shot), [])
    if (shared := _shared(rows, same)) is rows:
        same.append(rows)
    if measured is not None:
        measured = replace(measured, episodes=shared)
    return Ranked(results, slug(results[0].run.id), scores, shared, measured=measured)


def _shared(rows: pd.DataFrame, others: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The one of the others that is equal to these rows, or these."""
    return next((other for other in others if other is rows or other.equals(rows)), rows)


def _unique(entries: Sequence[Ranked]) -> list[Ranked]:
    """Slugs that no two records share: those that clash get a piece of their run's hash."""
    slugs = Counter(entry.slug for entry in entries)

    def own(entry: Ranked) -> str:
        if slugs[entry.slug] == 1:
            return entry.slug
        return f"{entry.slug}-{hashlib.sha256(entry.run.model_dump_json().encode()).hexdigest()[:8]}"

    return [replace(entry, slug=own(entry)) for entry in entries]


def _bank(entries: Sequence[Ranked], with_ranks: bool, sort: str) -> Bank:
    run = entries[0].run
    dataset, protocol, fingerprint, protocol_hash = _bank_key(entries[0])
    name = slug(dataset, protocol, fingerprint[:8], protocol_hash[:4])

    def key(entry: Ranked) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        return entry.run.way, entry.run.shot, entry.first.place.episodes

    boards = [_board(name, list(group), with_ranks, sort) for _, group in groupby(sorted(entries, key=key), key=key)]
    return Bank(
        slug=name,
        dataset=dataset,
        protocol=protocol,
        fingerprint=fingerprint,
        protocol_hash=protocol_hash,
        fold_numbers=tuple(sorted(run.bank.folds)),
        classes=sum(len(classes) for classes in run.bank.folds.values()),
        episodes=sum(run.bank.episodes.values()),
        boards=tuple(boards),
    )


def _board(bank: str, entries: Sequence[Ranked], with_ranks: bool, sort: str) -> Board:
    def key(entry: Ranked) -> tuple[bool, float, str, str, str]:
        value = entry.scores.miou.value
        return value is None, -(value or 0.0), entry.title, entry.run.backbone, entry.slug

    ordered = _with_rank_intervals(sorted(entries, key=key)) if with_ranks else sorted(entries, key=key)
    values = [None if entry.contaminated else entry.scores.miou.value for entry in ordered]
    ranked = tuple(
        replace(entry, rank=None if value is None else 1 + sum(other is not None and other > value for other in values))
        for entry, value in zip(ordered, values, strict=True)
    )
    if sort == "name":
        ranked = tuple(sorted(ranked, key=lambda entry: (entry.title.lower(), entry.run.backbone, entry.slug)))
    elif sort == "date":
        ranked = tuple(sorted(ranked, key=lambda entry: entry.run.created, reverse=True))
    way, shot, part = ranked[0].run.way, ranked[0].run.shot, ranked[0].first.place.episodes
    words = [f"{fold}x{count}" for fold, count in part]
    return Board(slug(bank, f"{way}way", f"{shot}shot", *words), way, shot, part, ranked)


def _with_rank_intervals(entries: list[Ranked]) -> list[Ranked]:
    """Ranks that tests after Holm leave open, among the entries that are ranked."""
    ranked = [entry for entry in entries if entry.scores.miou.value is not None and not entry.contaminated]
    if len(ranked) < 2:
        return entries
    measured = [entry.measured for entry in ranked if entry.measured is not None]
    better = significantly_better(measured)
    ranks = rank_intervals(better)
    slugs = [entry.slug for entry in ranked]
    beaten = [frozenset(slug for slug, wins in zip(slugs, row, strict=True) if wins) for row in better]
    tested = {
        entry.slug: replace(entry, ranks=ranks[i], beats=beaten[i], tested=True) for i, entry in enumerate(ranked)
    }
    return [tested.get(entry.slug, entry) for entry in entries]
