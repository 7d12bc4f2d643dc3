"""A line of a table: one setting in one place, its results by shot, and how its name is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fssbench.reports.entries.results import Place, Result, Setting

WEIGHTS = {
    "imagenet": "untrained (ImageNet backbone)",
    "random": "untrained (random weights)",
    "checkpoint": "trained",
    "authors": "authors' checkpoint",
    "external": "predictions from elsewhere",
}


@dataclass(frozen=True)
class Scores:
    """What a line shows for one shot, in fractions: means over seeds and runs, and their standard deviation."""

    folds: dict[int, float | None]
    classes: dict[int, float | None]
    mean: float | None
    mean_std: float | None
    fb_iou: float | None
    repetitions: int  # seeds x runs


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

    def scores(self, shot: int) -> Scores | None:
        """The numbers for `shot`; None if it was not run."""
        return scores_of(self.shots[shot]) if shot in self.shots else None


def scores_of(results: Sequence[Result]) -> Scores:
    """Means over seeds; a fold that one of the seeds lacks has no value."""
    summaries = [result.summary for result in results]
    fold_classes = results[0].run.bank.folds
    folds: dict[int, float | None] = {}
    classes: dict[int, float | None] = {}
    for fold, members in fold_classes.items():
        parts = [summary.folds.get(str(fold)) for summary in summaries]
        folds[fold] = _mean([part.miou if part else None for part in parts])
        for c in members:
            classes[c] = _mean([part.classes.get(str(c)) if part else None for part in parts])
    means = [summary.miou for summary in summaries]
    return Scores(
        folds=folds,
        classes=classes,
        mean=_mean(means),
        mean_std=_std(means) if len(means) > 1 else summaries[0].miou_std,
        fb_iou=_mean([summary.fb_iou for summary in summaries]),
        repetitions=sum(summary.runs for summary in summaries),
    )


def lines_of(results: Sequence[Result]) -> list[Line]:
    """Results of one setting side by side, in the order of the results."""
    groups: dict[tuple[Place, Setting], dict[int, list[Result]]] = {}
    for result in results:
        groups.setdefault((result.place, result.setting), {}).setdefault(result.shot, []).append(result)
    return [
        Line(place, setting, {shot: tuple(members) for shot, members in by_shot.items()})
        for (place, setting), by_shot in groups.items()
    ]


def method_label(setting: Setting) -> str:
    """The method as the field writes it, with what a reader must not overlook."""
    extra = [word for word in dict.fromkeys((setting.annotation, setting.supervision)) if word != "mask"]
    extra += ["our reading"] if setting.our_reading else []
    return f"{setting.title} ({', '.join(extra)})" if extra else setting.title


def weights_label(setting: Setting) -> str:
    """Where the parameters came from, in words."""
    return " / ".join(WEIGHTS.get(kind, kind) for kind in setting.weights.split(" and "))


def settings_that_differ(lines: Sequence[Line]) -> list[str]:
    """For each line, what tells it from others that would look the same; empty strings where nothing has to."""
    alike: dict[tuple[str, ...], list[Setting]] = {}
    for line in lines:
        alike.setdefault(_looks(line.setting), []).append(line.setting)
    return [_difference(line.setting, alike[_looks(line.setting)]) for line in lines]


def _looks(setting: Setting) -> tuple[str, ...]:
    return method_label(setting), setting.backbone, weights_label(setting)


def _difference(setting: Setting, others: Sequence[Setting]) -> str:
    every = [_details(other) for other in others]
    mine = _details(setting)
    return ", ".join(f"{key} {value}" for key, value in mine.items() if any(o.get(key) != value for o in every))


def _details(setting: Setting) -> dict[str, str]:
    config = {f"{key} =": json.dumps(value) for key, value in json.loads(setting.config).items()}
    named = {
        "method": setting.method,
        "input": setting.input_size,
        "on": setting.device,
        "in": setting.precision,
        "checkpoint": setting.checkpoint,
    }
    return {key: value for key, value in (config | named).items() if value}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _std(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 and len(known) == len(values) else None
