"""Results as data: one entry a line and shot, fractions to ten digits, for JSON and CSV.

Ten digits are more than any measurement holds and fewer than processors agree on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fssbench.reports.entries.lines import method_label, weights_label
from fssbench.reports.entries.results import Place, Result
from fssbench.reports.papers.registry import Span
from fssbench.reports.tables.layouts import Shown, View, places_of, shown_lines
from fssbench.reports.tables.remarks import lead, reason
from fssbench.scoring.intervals import Interval

SCHEMA = 1


def document(results: Sequence[Result], view: View, *, per_class: bool = False) -> dict[str, Any]:
    """What JSON holds; with `per_class` a row a class, as in CSV.

    {"schema": 1, "tables": [{place, what must be said, "rows": [entry, ...]}]}; fractions, None where undefined."""
    places = places_of(results)
    tables = []
    for place, members in places.items():
        lines = shown_lines(members, view)
        said = lead(place, [shown.line for shown in lines], reason(place, list(places)), view.lens)
        rows = [
            row
            for shown in lines
            for entry in _entries(shown)
            for row in (_class_rows(entry) if per_class else [entry])
        ]
        tables.append({**_place(place), "remarks": list(said), "rows": rows})
    return {"schema": SCHEMA, "tables": tables}


def flat_rows(results: Sequence[Result], view: View, *, per_class: bool = False) -> list[dict[str, Any]]:
    """What CSV holds: a row a line and shot (and class); the first columns say which can be compared. Fractions."""
    return [
        {**_place(place), **flat}
        for place, members in places_of(results).items()
        for shown in shown_lines(members, view)
        for entry in _entries(shown)
        for flat in (_class_rows(entry) if per_class else [_fold_row(entry)])
    ]


def _place(place: Place) -> dict[str, Any]:
    return {
        "dataset": place.dataset,
        "protocol": place.protocol,
        "scored_as": place.lens or place.protocol,
        "way": place.way,
        "fingerprint": place.fingerprint,
        "complete_run": not place.episodes,
    }


def _entries(shown: Shown) -> Iterator[dict[str, Any]]:
    setting = shown.line.setting
    for shot, scores in shown.scores.items():
        run = shown.line.shots[shot][0].run
        names = run.bank.class_names
        paper = shown.paper.shots.get(shot) if shown.paper else None
        yield {
            "method": setting.method,
            "label": method_label(setting),
            "backbone": setting.backbone,
            "weights": weights_label(setting),
            "setting": shown.setting,
            "annotation": setting.annotation,
            "our_reading": setting.our_reading,
            "complete_bank": run.bank.complete,
            "shot": shot,
            "trainings": scores.trainings,
            "runs": scores.runs,
            "contaminated": setting.contaminated,
            "folds": {str(fold): _rounded(value) for fold, value in scores.folds.items()},
            "mean": _rounded(scores.mean),
            "training_std": _rounded(scores.training_std),
            "run_std": _rounded(scores.run_std),
            "fb_iou": _rounded(scores.fb_iou),
            **(
                {}
                if scores.false_positive_rate is None
                else {"false_positive_rate": _rounded(scores.false_positive_rate)}
            ),
            "classes": {names.get(c, str(c)): _rounded(value) for c, value in scores.classes.items()},
            "class_intervals": {
                names.get(c, str(c)): _interval(shown.bounds[shot][f"class {c}"])
                for c in scores.classes
                if f"class {c}" in shown.bounds[shot]
            },
            "intervals": {
                name: _interval(bound) for name, bound in shown.bounds[shot].items() if not name.startswith("class ")
            },
            "published": None
            if paper is None or shown.paper is None
            else {
                "label": shown.paper.label,
                "backbone": paper.backbone,
                "verified": paper.verified,
                "folds": [_span(span) for span in paper.miou_folds],
                "mean": _span(paper.miou),
                "fb_iou": _span(paper.fb_iou),
                "difference": None
                if scores.mean is None or paper.miou is None or not shown.paper.comparable
                else _rounded(scores.mean - paper.miou.middle / 100),
                "sources": list(paper.sources),
                "differs": list(shown.paper.differs),
            },
            "records": [source.run.id for result in shown.line.shots[shot] for source in result.sources],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 10)


def _interval(bound: Interval) -> dict[str, float | None]:
    return {"low": _rounded(bound.low), "high": _rounded(bound.high), "error": _rounded(bound.error)}


def _span(span: Span | None) -> list[float | None] | None:
    return None if span is None else [_rounded(span.low / 100), _rounded(span.high / 100)]


def _fold_row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in entry.items() if not isinstance(value, (dict, list)) and key != "published"}
    row |= {f"fold{fold}": value for fold, value in entry["folds"].items()}
    for name, bound in entry["intervals"].items():
        key = name.replace("fold ", "fold").replace(" fb", "_fb")
        row |= {f"{key}_low": bound["low"], f"{key}_high": bound["high"]}
    paper = entry["published"]
    if paper is not None:
        low, high = paper["mean"] or (None, None)
        row |= {"published": paper["label"], "published_backbone": paper["backbone"], "published_low": low,
                "published_high": high, "published_verified": paper["verified"], "difference": paper["difference"],
                "differs": "; ".join(paper["differs"])}  # fmt: skip
    return row | {"records": " ".join(entry["records"])}


def _class_rows(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kept = ("method", "label", "backbone", "weights", "setting", "annotation", "shot")
    for name, value in entry["classes"].items():
        bound = entry["class_intervals"].get(name, {})
        row = {**{key: entry[key] for key in kept}, "class": name, "iou": value}
        yield row | {key: bound[key] for key in ("low", "high") if key in bound}
