"""Which results are wanted, and in what order: the filters that report, compare, plot and leaderboard share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fssbench.errors import RecordError, UsageError, unknown_name
from fssbench.reports.entries.lines import Entry, entries_of, scores_of
from fssbench.reports.entries.results import Result

SORTS = ("name", "mean", "date")


@dataclass(frozen=True)
class Wanted:
    """What results have to be; empty means any. Names compare without case."""

    methods: Sequence[str] = ()
    backbones: Sequence[str] = ()
    datasets: Sequence[str] = ()
    shots: Sequence[int] = ()
    weights: Sequence[str] = ()

    def choose(self, results: Sequence[Result]) -> list[Result]:
        """Those wanted. Raises `UsageError` for a name that no result has, `RecordError` if none is left."""
        tests: list[tuple[str, Sequence[str], Callable[[Result], set[str]]]] = [
            ("method", self.methods, lambda r: {r.setting.method, r.setting.title}),
            ("backbone", self.backbones, lambda r: {r.setting.backbone}),
            ("dataset", self.datasets, lambda r: {r.place.dataset}),
            ("weights", self.weights, lambda r: {r.setting.weights}),
        ]
        kept = list(results)
        for kind, words, names in tests:
            known = {name for result in results for name in names(result)}
            folded = {name.lower() for name in known}
            for word in words:
                if word.lower() not in folded:
                    raise UsageError(f"--{kind}: {unknown_name(kind, word, known)}")
            wanted = {word.lower() for word in words}
            kept = [r for r in kept if not wanted or wanted & {name.lower() for name in names(r)}]
        if self.shots:
            kept = [r for r in kept if r.shot in self.shots]
        if not kept:
            raise RecordError(f"no record has {self}; without filters there are {len(results)} results")
        return kept

    def __str__(self) -> str:
        said = {
            "--method": self.methods,
            "--backbone": self.backbones,
            "--dataset": self.datasets,
            "--shots": self.shots,
            "--weights": self.weights,
        }
        return " ".join(f"{name} {' '.join(map(str, words))}" for name, words in said.items() if words)


def ordered(results: Sequence[Result], by: str) -> list[Result]:
    """Results by `name` (as they come), by `mean` (the best first), or by `date` (the newest first).

    Trainings of one setting count by their mean. A table keeps a setting's shots together: a line stands where its best
    number of shots, or its newest result, does.
    """
    if by not in SORTS:
        raise UsageError(f"--sort: {unknown_name('order', by, SORTS)}")
    if by == "name":
        return list(results)
    places = list(dict.fromkeys(result.place for result in results))
    if by == "mean":
        held = [r for entry in sorted(entries_of(results), key=_mean, reverse=True) for r in entry.results]
    else:
        held = sorted(results, key=lambda r: r.run.created, reverse=True)
    return sorted(held, key=lambda r: places.index(r.place))


def _mean(entry: Entry) -> float:
    mean = scores_of(entry.results).mean
    return -1.0 if mean is None else mean
