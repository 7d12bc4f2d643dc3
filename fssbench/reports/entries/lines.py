"""A line of a table: one setting in one place, its results by shot, and how its name is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fssbench.records import Run
from fssbench.reports.entries.results import Place, Result, Setting, grouped, numbers_of

WEIGHTS = {
    "imagenet": "untrained (ImageNet backbone)",
    "published": "untrained (published encoder)",
    "random": "untrained (random weights)",
    "none": "none (nothing to learn)",
    "checkpoint": "trained",
    "authors": "authors' checkpoint",
    "external": "predictions from elsewhere",
}
UNTRAINED = ("imagenet", "published", "random", "none", "external")
DATASETS = {"pascal5i": "PASCAL-5i", "coco20i": "COCO-20i", "fss1000": "FSS-1000", "shapes5i": "Shapes-5i"}


@dataclass(frozen=True)
class Scores:
    """What a line shows for one shot, in fractions: means over seeds and runs, and their standard deviation."""

    numbers: dict[str, float]  # by the names of `numbers_of`; without those that one of the trainings lacks
    training_std: float | None  # over trainings (n - 1); None for one
    run_std: float | None  # over a protocol's runs (seeds of the episodes), of one training
    trainings: int
    runs: int

    @property
    def mean(self) -> float | None:
        return self.numbers.get("mean")

    @property
    def spread(self) -> float | None:
        """The standard deviation that stands beside the mean."""
        return self.run_std if self.training_std is None else self.training_std


@dataclass(frozen=True)
class Line:
    """One setting in one place; `shots` holds one result a seed."""

    place: Place
    setting: Setting
    shots: dict[int, tuple[Result, ...]]

    @property
    def results(self) -> list[Result]:
        """All results, by shot and seed."""
        return [result for shot in sorted(self.shots) for result in self.shots[shot]]

    @property
    def run(self) -> Run:
        """The first record; bank, protocol and method are the same in all of them."""
        return self.results[0].run

    @property
    def label(self) -> str:
        return method_label(self.setting)

    @property
    def runs(self) -> list[Run]:
        """Every record that the results are made of."""
        return [source.run for result in self.results for source in result.sources]

    def scores(self, shot: int) -> Scores | None:
        """The numbers for `shot`; None if it was not run."""
        return scores_of(self.shots[shot]) if shot in self.shots else None


@dataclass(frozen=True)
class Entry:
    """One setting at one shot with all its trainings: what is compared and ranked."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The first training."""
        return self.results[0]

    @property
    def run(self) -> Run:
        """The first of the records that the first training is made of."""
        return self.first.run

    @property
    def one_training(self) -> bool:
        """Whether weights were trained, but only once: nobody knows what another training would give."""
        return len(self.results) == 1 and self.first.setting.weights not in UNTRAINED


def entries_of(results: Sequence[Result]) -> list[Entry]:
    """Results that differ in their training only, together."""
    return [Entry(tuple(group)) for group in grouped(results, lambda r: (r.place, r.setting, r.shot)).values()]


def scores_of(results: Sequence[Result]) -> Scores:
    """Means over trainings."""
    every = [numbers_of(result.summary) for result in results]
    numbers = {}
    for name in every[0]:
        known = [value for each in every if (value := each.get(name)) is not None]
        if len(known) == len(every):
            numbers[name] = fmean(known)
    several = len(results) > 1 and "mean" in numbers
    return Scores(
        numbers=numbers,
        training_std=stdev(each["mean"] or 0.0 for each in every) if several else None,
        run_std=results[0].summary.miou_std if len(results) == 1 else None,
        trainings=len(results),
        runs=max(result.summary.runs for result in results),
    )


def lines_of(results: Sequence[Result]) -> list[Line]:
    """Results of one setting side by side, in the order of the results."""
    return [
        Line(place, setting, {shot: tuple(members) for shot, members in grouped(group, lambda r: r.shot).items()})
        for (place, setting), group in grouped(results, lambda r: (r.place, r.setting)).items()
    ]


def title(place: Place) -> str:
    """Data set, ways and protocol."""
    protocol = f"{place.protocol}, scored as {place.lens}" if place.lens else place.protocol
    return f"{DATASETS.get(place.dataset, place.dataset)}, {place.way}-way, protocol {protocol}"


def method_label(setting: Setting) -> str:
    """The method as the field writes it, with what a reader must not overlook."""
    extra = [word for word in dict.fromkeys((setting.annotation, setting.supervision)) if word != "mask"]
    extra += ["our reading"] if setting.our_reading else []
    extra += ["saw test classes"] if setting.contaminated else []
    extra += ["selected on test classes"] if '"selected_on": "novel"' in setting.regime else []
    return f"{setting.title} ({', '.join(extra)})" if extra else setting.title


def weights_label(setting: Setting) -> str:
    """Where the parameters came from, in words."""
    return " / ".join(WEIGHTS.get(kind, kind) for kind in setting.weights.split(" and "))


def settings_that_differ(lines: Sequence[Line]) -> list[str]:
    """For each line, what tells it from others that would look the same; empty strings where nothing has to."""
    alike: dict[tuple[str, ...], list[dict[str, str]]] = {}
    details = [_details(line.setting) for line in lines]
    for line, mine in zip(lines, details, strict=True):
        alike.setdefault(_looks(line.setting), []).append(mine)
    common = {looks: _common(every) for looks, every in alike.items()}
    return [
        ", ".join(f"{key} {value}" for key, value in mine.items() if (key, value) not in common[_looks(line.setting)])
        for line, mine in zip(lines, details, strict=True)
    ]


def _looks(setting: Setting) -> tuple[str, ...]:
    return method_label(setting), setting.backbone, weights_label(setting)


def _common(every: Sequence[dict[str, str]]) -> set[tuple[str, str]]:
    return set.intersection(*(set(details.items()) for details in every))


def _details(setting: Setting) -> dict[str, str]:
    config = {f"{key} =": json.dumps(value) for key, value in json.loads(setting.config).items()}
    named = {
        "method": setting.method,
        "input": setting.input_size,
        "on": setting.device,
        "in": setting.precision,
        "checkpoint": setting.checkpoint,
    }
    regime = {f"trained: {key}": value for key, value in json.loads(setting.regime or "{}").items()}
    return {key: value for key, value in (config | named | regime).items() if value}
