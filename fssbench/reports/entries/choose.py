"""Which results are wanted, and in what order: the filters that report, compare, plot and leaderboard share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fssbench.errors import RecordError, UsageError, unknown_name
from fssbench.reports.entries.lines import entries_of, scores_of
from fssbench.reports.entries.results import Result

FILTERS: dict[str, Callable[[Result], set[str]]] = {  # the words by which a filter knows a result
    "method": lambda r: {r.setting.method.lower(), r.setting.title.lower()},
    "backbone": lambda r: {r.setting.backbone.lower()},
    "dataset": lambda r: {r.place.dataset.lower()},
    "shots": lambda r: {str(r.shot)},
    "weights": lambda r: {r.setting.weights.lower()},
}
SORTS = ("name", "mean", "date")


def choose(results: Sequence[Result], wanted: Mapping[str, Sequence[str]]) -> list[Result]:
    """The results that have one of the words of every filter, by its name in `FILTERS`; case does not matter, and no
    words mean any. Raises `UsageError` for a name that no result has, `RecordError` if none is left."""
    kept = list(results)
    for kind, words in wanted.items():
        known = {name for result in results for name in FILTERS[kind](result)}
        unknown = [word for word in words if word.lower() not in known]
        if unknown and kind != "shots":
            raise UsageError(f"--{kind}: {unknown_name(kind, unknown[0], known)}")
        held = {word.lower() for word in words}
        kept = [result for result in kept if not words or held & FILTERS[kind](result)]
    if not kept:
        said = " ".join(f"--{kind} {' '.join(words)}" for kind, words in wanted.items() if words)
        raise RecordError(f"no record has {said}; without filters there are {len(results)} results")
    return kept


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
        means = [(scores_of(entry.results).numbers.get("mean", -1.0), entry) for entry in entries_of(results)]
        held = [r for _, entry in sorted(means, key=lambda one: -one[0]) for r in entry.results]
    else:
        held = sorted(results, key=lambda r: r.run.created, reverse=True)
    return sorted(held, key=lambda r: places.index(r.place))
