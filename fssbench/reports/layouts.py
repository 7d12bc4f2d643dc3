"""The layouts of the papers: one table by folds, one by classes. From lines to `Table`."""

from __future__ import annotations

from collections.abc import Sequence

from fssbench.reports.lines import Line, Scores, lines_of, method_label, settings_that_differ, weights_label
from fssbench.reports.results import Place, Result
from fssbench.reports.tables import MISSING, Cell, Column, Row, Table, number, ranked

DATASETS = {"pascal5i": "PASCAL-5i", "coco20i": "COCO-20i", "fss1000": "FSS-1000", "shapes5i": "Shapes-5i"}


def fold_tables(results: Sequence[Result], digits: int = 1) -> list[Table]:
    """One table a place: rows method x backbone x weights; for each shot the folds, their mean, and FB-IoU."""
    places = _places(results)
    return [
        _fold_table(place, lines_of(members), _reason(place, list(places)), digits) for place, members in places.items()
    ]


def class_tables(results: Sequence[Result], digits: int = 1) -> list[Table]:
    """One table a place: rows classes, columns method and shot."""
    places = _places(results)
    return [
        _class_table(place, lines_of(members), _reason(place, list(places)), digits)
        for place, members in places.items()
    ]


def _places(results: Sequence[Result]) -> dict[Place, list[Result]]:
    places: dict[Place, list[Result]] = {}
    for result in results:
        places.setdefault(result.place, []).append(result)
    return places


def _fold_table(place: Place, lines: list[Line], reason: str, digits: int) -> Table:
    shots = sorted({shot for line in lines for shot in line.shots})
    folds = sorted(lines[0].results[0].run.bank.folds)
    settings = settings_that_differ(lines)
    with_setting = any(settings)
    with_fb = any(result.summary.fb_iou is not None for line in lines for result in line.results) or place.way == 1
    columns = _name_columns(with_setting) + [
        column for shot in shots for column in _shot_columns(f"{shot}-shot", folds, with_fb)
    ]
    rows = [
        Row((
            *_names(line, setting, with_setting),
            *(cell for shot in shots for cell in _shot_cells(line.scores(shot), folds, with_fb, digits)),
        ))
        for line, setting in zip(lines, settings, strict=True)
    ]  # fmt: skip
    return Table(
        title=_title(place),
        columns=tuple(columns),
        rows=ranked(rows, columns, digits),
        lead=_lead(place, lines, reason),
        notes=_notes(place, lines),
    )


def _name_columns(with_setting: bool) -> list[Column]:
    names = ["Method", "Backbone", "Weights", *(["Setting"] if with_setting else [])]
    return [Column(name, numeric=False) for name in names]


def _names(line: Line, setting: str, with_setting: bool) -> list[Cell]:
    cells = [Cell(method_label(line.setting)), Cell(line.setting.backbone), Cell(weights_label(line.setting))]
    return [*cells, Cell(setting or MISSING)] if with_setting else cells


def _shot_columns(group: str, folds: Sequence[int], with_fb: bool) -> list[Column]:
    by_fold = [*(f"fold {fold}" for fold in folds), "mean"] if len(folds) > 1 else ["mIoU"]
    return [Column(title, group) for title in (*by_fold, *(["FB-IoU"] if with_fb else []))]


def _shot_cells(scores: Scores | None, folds: Sequence[int], with_fb: bool, digits: int) -> list[Cell]:
    width = (len(folds) + 1 if len(folds) > 1 else 1) + with_fb
    if scores is None:
        return [Cell(MISSING)] * width
    by_fold = [number(scores.folds[fold], digits) for fold in folds] if len(folds) > 1 else []
    mean = number(scores.mean, digits, scores.mean_std)
    return [*by_fold, mean, *([number(scores.fb_iou, digits)] if with_fb else [])]


def _class_table(place: Place, lines: list[Line], reason: str, digits: int) -> Table:
    bank = lines[0].results[0].run.bank
    settings = settings_that_differ(lines)
    columns = [Column("Fold", numeric=False), Column("Class", numeric=False)]
    held: list[Scores] = []
    for line, setting in zip(lines, settings, strict=True):
        name = ", ".join(
            filter(None, [method_label(line.setting), line.setting.backbone, weights_label(line.setting), setting])
        )
        for shot in sorted(line.shots):
            columns.append(Column(f"{shot}-shot", name))
            held.append(scores_of_shot(line, shot))
    rows = [
        Row((
            Cell(str(fold)),
            Cell(bank.class_names.get(c, str(c))),
            *(number(scores.classes[c], digits) for scores in held),
        ))
        for fold, classes in sorted(bank.folds.items())
        for c in classes
    ]  # fmt: skip
    rows.append(Row((Cell(MISSING), Cell("mean"), *(number(scores.mean, digits) for scores in held))))
    return Table(_title(place) + ", by class", tuple(columns), tuple(rows), _lead(place, lines, reason),
                 _notes(place, lines))  # fmt: skip


def scores_of_shot(line: Line, shot: int) -> Scores:
    """The numbers of a shot that the line is known to have."""
    scores = line.scores(shot)
    if scores is None:
        raise KeyError(shot)
    return scores


def _title(place: Place) -> str:
    return f"{DATASETS.get(place.dataset, place.dataset)}, {place.way}-way, protocol {place.protocol}"


def _lead(place: Place, lines: Sequence[Line], reason: str) -> tuple[str, ...]:
    bank = lines[0].results[0].run.bank
    counts = dict(sorted(bank.episodes.items())) | dict(place.episodes)
    each = sorted(set(counts.values()))
    episodes = f"{each[0]} episodes a fold" if len(each) == 1 else "episodes by fold: " + ", ".join(
        f"{fold}: {count}" for fold, count in counts.items()
    )  # fmt: skip
    sentences = [f"mIoU and FB-IoU in %; {episodes}; bank {place.fingerprint[:12]}."]
    if place.episodes:
        sentences.append("Only a part of the bank's episodes was run.")
    if not bank.complete:
        sentences.append(f"Incomplete bank, not comparable with published numbers: {bank.note or 'no note'}.")
    elif bank.note:
        sentences.append(f"Bank: {bank.note}.")
    return (*sentences, *([reason] if reason else []))


def _reason(place: Place, places: Sequence[Place]) -> str:
    """Why this is a table of its own, where there are several."""
    others = [other for other in places if other != place]
    differences = {
        "data set": any(o.dataset != place.dataset for o in others),
        "protocol": any(o.protocol_hash != place.protocol_hash for o in others),
        "number of ways": any(o.way != place.way for o in others),
        "episodes (bank fingerprint)": any(o.fingerprint != place.fingerprint for o in others),
        "part of the bank": any(o.episodes != place.episodes for o in others),
    }
    named = [name for name, differs in differences.items() if differs]
    return f"A table of its own, because others differ in {_listed(named)}: not comparable." if named else ""


def _notes(place: Place, lines: Sequence[Line]) -> tuple[str, ...]:
    results = [result for line in lines for result in line.results]
    notes = []
    if any(result.summary.missing_folds for result in results):
        notes.append(f"`{MISSING}`: not run, or undefined. There is no mean while a fold is missing.")
    absent = sorted({c for r in results for part in r.summary.folds.values() for c in part.absent})
    if absent:
        names = results[0].run.bank.class_names
        notes.append(f"No episode held {_listed([names.get(c, str(c)) for c in absent])}.")
    if any(line.setting.our_reading for line in lines):
        notes.append("Our reading: implemented after a paper without public code.")
    if any(result.run.method.merged_ways for result in results):
        merged = sorted({line.setting.title for line in lines if any(r.run.method.merged_ways for r in line.results)})
        notes.append(f"{_listed(merged)} know one way at a time: run once a way, and merged.")
    if any((s := line.scores(shot)) is not None and s.mean_std is not None for line in lines for shot in line.shots):
        counts = sorted({scores_of_shot(line, shot).repetitions for line in lines for shot in line.shots} - {1})
        notes.append(
            f"± is the standard deviation over {_listed([str(n) for n in counts])} repetitions (seeds or runs)."
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""
