"""Results as data: one entry a line and shot, fractions to ten digits, for JSON and CSV.

Ten digits are more than any measurement holds and fewer than processors agree on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fssbench.reports.entries.lines import weights_label
from fssbench.reports.entries.results import Place, Result, places_of
from fssbench.reports.papers.registry import Span
from fssbench.reports.tables.layouts import Shown, View, shown_lines
from fssbench.reports.tables.remarks import lead, reason

SCHEMA = 1
_CLASS_ROW = ("method", "label", "backbone", "weights", "setting", "annotation", "shot")  # what a row of a class keeps


def document(results: Sequence[Result], view: View, *, per_class: bool = False) -> dict[str, Any]:
    """What JSON holds; with `per_class` a row a class, as in CSV.

    {"schema": 1, "tables": [{place, what must be said, "rows": [entry, ...]}]}; fractions, None where undefined."""
    places = places_of(results)
    tables = []
    for place, members in places.items():
        lines = shown_lines(members, view)
        said = lead(place, [shown.line for shown in lines], reason(place, list(places)), view.lens)
        entries = [entry for shown in lines for entry in _entries(shown)]
        rows = [row for entry in entries for row in _class_rows(entry)] if per_class else entries
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
    setting, run = shown.line.setting, shown.line.run
    classes = {c: run.bank.class_names.get(c, str(c)) for members in run.bank.folds.values() for c in members}
    for shot, scores in shown.scores.items():
        bounds = {
            name: {"low": bound.low, "high": bound.high, "error": bound.error}
            for name, bound in shown.bounds[shot].items()
        }
        entry = {
            "method": setting.method,
            "label": shown.line.label,
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
            "folds": {str(fold): scores.numbers.get(f"fold {fold}") for fold in run.bank.folds},
            "mean": scores.mean,
            "training_std": scores.training_std,
            "run_std": scores.run_std,
            "fb_iou": scores.numbers.get("fb"),
            **({"false_positive_rate": scores.numbers["fpr"]} if "fpr" in scores.numbers else {}),
            "classes": {name: scores.numbers.get(f"class {c}") for c, name in classes.items()},
            "class_intervals": {name: bounds[f"class {c}"] for c, name in classes.items() if f"class {c}" in bounds},
            "intervals": {name: bound for name, bound in bounds.items() if not name.startswith("class ")},
            "published": _published(shown, shot),
            "records": [source.run.id for result in shown.line.shots[shot] for source in result.sources],
        }
        yield {key: _rounded(value) for key, value in entry.items()}


def _published(shown: Shown, shot: int) -> dict[str, Any] | None:
    if shown.paper is None or shot not in shown.paper.shots:
        return None
    paper, ours = shown.paper.shots[shot], shown.scores[shot].mean
    apart = None if ours is None or paper.miou is None else ours - paper.miou.middle / 100
    return {
        "label": shown.paper.label,
        "backbone": paper.backbone,
        "verified": paper.verified,
        "folds": [_range(paper.numbers.get(f"fold {fold}")) for fold in range(4)],
        "mean": _range(paper.miou),
        "fb_iou": _range(paper.numbers.get("fb")),
        "difference": apart if shown.paper.comparable else None,
        "sources": list(paper.sources),
        "differs": list(shown.paper.differs),
    }


def _range(span: Span | None) -> list[float] | None:
    return None if span is None else [span.low / 100, span.high / 100]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 10) if isinstance(value, float) else value


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
    for name, value in entry["classes"].items():
        bound = entry["class_intervals"].get(name, {})
        row = {**{key: entry[key] for key in _CLASS_ROW}, "class": name, "iou": value}
        yield row | {key: bound[key] for key in ("low", "high") if key in bound}
