"""The sentences around a table: what was measured, why it is a table of its own, what its marks mean."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fssbench.protocol import Protocol
from fssbench.records import contamination, exposures
from fssbench.reports.entries.lens import limits
from fssbench.reports.entries.lines import DATASETS, Line, method_label
from fssbench.reports.entries.results import Place
from fssbench.reports.papers.beside import Beside, sentence

_FILTERS = {
    "dropped": "left out",
    "masked": "used, those classes being masked,",
    "kept": "used, those classes being background,",
}


def lead(place: Place, lines: Sequence[Line], why: str, lens: Protocol | None) -> tuple[str, ...]:
    """What stands above the numbers."""
    result = lines[0].results[0]
    bank = result.run.bank
    counts = dict(sorted(bank.episodes.items())) | dict(place.episodes)
    each = sorted(set(counts.values()))
    by_fold = ", ".join(f"{fold}: {count}" for fold, count in counts.items())
    episodes = f"{each[0]} episodes a fold" if len(each) == 1 else f"episodes by fold: {by_fold}"
    sentences = [f"mIoU and FB-IoU in %; {episodes}; bank {place.fingerprint[:12]}."]
    if place.episodes:
        sentences.append("Only a part of the bank's episodes was run.")
    if not bank.complete:
        sentences.append(f"Incomplete bank, not comparable with published numbers: {bank.note or 'no note'}.")
    elif bank.note:
        sentences.append(f"Bank: {bank.note}.")
    if bank.protocol.get("negatives"):
        sentences.append(
            "Queries may lack the classes asked for, and what is found there is wrong; FPR is the share of the pixels "
            "of such queries that was taken for the class."
        )
    sentences.extend(_other_files(lines))
    if lens is not None:
        sentences.extend(limits(result, lens))
    return (*sentences, *([why] if why else []))


def reason(place: Place, places: Sequence[Place]) -> str:
    """Why this is a table of its own, where there are several."""
    others = [other for other in places if other != place]
    differences = {
        "data set": any(o.dataset != place.dataset for o in others),
        "protocol": any(o.protocol_hash != place.protocol_hash for o in others),
        "number of ways": any(o.way != place.way for o in others),
        "episodes (bank fingerprint)": any(o.fingerprint != place.fingerprint for o in others),
        "part of the bank that was run": any(o.episodes != place.episodes for o in others),
    }
    named = [name for name, differs in differences.items() if differs]
    return f"A table of its own, because others differ in {listed(named)}: not comparable." if named else ""


def notes(
    place: Place,
    lines: Sequence[Line],
    papers: Sequence[tuple[Line, Beside]],
    *,
    with_intervals: bool,
    with_published: bool,
) -> tuple[str, ...]:
    """What stands below the numbers."""
    found = [*_seen(lines), *_unknown(lines), *_gaps(lines), *_labels(lines), *_spreads(lines), *_repeats(lines)]
    if with_intervals:
        found.append(
            "Brackets: 95 % intervals over images (and over trainings where there are several); Student's t with a "
            "standard error for episodes that share queries and supports, skewed as a bootstrap over images is."
        )
    if with_published and not papers:
        found.append(f"No published numbers for these methods on {DATASETS.get(place.dataset, place.dataset)}.")
    found.extend(dict.fromkeys(sentence(paper) for _, paper in papers))
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _other_files(lines: Sequence[Line]) -> list[str]:
    """Where the episodes are equal and the image files are not."""
    users: dict[str, list[str]] = {}
    for line in lines:
        for source in (source for result in line.results for source in result.sources):
            if source.run.bank.image_fingerprint:
                users.setdefault(source.run.bank.image_fingerprint, []).append(method_label(line.setting))
    if len(users) < 2:
        return []
    by = "; ".join(f"{files[:12]}: {listed(sorted(set(who)))}" for files, who in sorted(users.items()))
    return [f"The image files differ, though not their masks and episodes (image fingerprint {by})."]


def _gaps(lines: Sequence[Line]) -> list[str]:
    results = [result for line in lines for result in line.results]
    found = []
    if any(result.summary.missing_folds or result.summary.miou is None for result in results):
        found.append("A dash: not run, or undefined. There is no mean while a fold is missing.")
    absent = sorted({c for r in results for part in r.summary.folds.values() for c in part.absent})
    if absent:
        names = results[0].run.bank.class_names
        found.append(f"No episode held {listed([names.get(c, str(c)) for c in absent])}.")
    return found


def _labels(lines: Sequence[Line]) -> list[str]:
    found = []
    if any(line.setting.our_reading for line in lines):
        found.append("Our reading: implemented after a paper without public code.")
    filters: dict[str, set[str]] = {}
    for line in lines:
        for said in json.loads(line.setting.regime or "{}").get("novel_images", "").split(" and "):
            filters.setdefault(said, set()).add(line.setting.title)
    parts = [f"{words} by {listed(sorted(filters[said]))}" for said, words in _FILTERS.items() if said in filters]
    if parts:  # worth points, so it is said of every training
        found.append(f"Training images that show held-out classes: {'; '.join(parts)}.")
    for line in lines:
        lost = max((s.run.vanished_supports or 0 for r in line.results for s in r.sources), default=0)
        if lost:
            found.append(
                f"{method_label(line.setting)}: {lost} supports had no pixel of their object at its input size."
            )
    merged = sorted({line.setting.title for line in lines if any(r.run.method.merged_ways for r in line.results)})
    if merged:
        found.append(f"One way at a time: {listed(merged)} was run once a way, and merged.")
    chosen: dict[str, set[str]] = {}
    for line in lines:
        for entry in (entry for result in line.results for entry in result.run.weights.values()):
            if entry.kind == "checkpoint" and entry.regime is not None:
                chosen.setdefault(entry.regime.selection, set()).add(line.setting.title)
    if len(chosen) == 1 and len(next(iter(chosen.values()))) > 1:
        return [*found, f"All checkpoints were selected on: {next(iter(chosen))}."]
    return [*found, *(f"Checkpoints of {listed(sorted(who))} were selected on: {on}." for on, who in chosen.items())]


def _spreads(lines: Sequence[Line]) -> list[str]:
    scores = [s for line in lines for shot in sorted(line.shots) if (s := line.scores(shot)) is not None]
    trainings = sorted({s.trainings for s in scores if s.training_std is not None})
    runs = sorted({s.runs for s in scores if s.run_std is not None})
    found = [f"over {listed([str(n) for n in trainings])} trainings"] if trainings else []
    found += [f"over {listed([str(n) for n in runs])} runs (seeds of the episodes) of one training"] if runs else []
    return [f"±: standard deviation {', or '.join(found)}."] if found else []


def _repeats(lines: Sequence[Line]) -> list[str]:
    """Further records of the same: said, never averaged in."""
    found = []
    for line in lines:
        for result in line.results:
            for other in result.repeats:
                first = next(s for s in result.sources if set(s.run.folds) & set(other.run.folds))
                whose = f"{method_label(line.setting)}, {result.shot}-shot ({other.path.name})"
                if other.run.created == first.run.created and other.summary == first.summary:
                    found.append(f"The same record twice: {whose}; it counts once.")
                    continue
                host = other.run.environment.host
                where = "elsewhere" if host != first.run.environment.host else "again on the same machine"
                fold = next(f for f in other.summary.folds if f in first.summary.folds)
                there, here = other.summary.folds[fold].miou, first.summary.folds[fold].miou
                values = " and ".join("-" if value is None else f"{100 * value:.2f}" for value in (there, here))
                found.append(f"Repeated {where}: {whose}; fold {fold}: {values} here.")
    return found


def _seen(lines: Sequence[Line]) -> list[str]:
    found = []
    for line in lines:
        if line.setting.contaminated:
            seen = {name for r in line.results for s in r.sources for c in contamination(s.run).values() for name in c}
            found.append(
                f"{method_label(line.setting)}: its checkpoint was trained on tested classes "
                f"({listed(sorted(seen)[:6])}{' and more' if len(seen) > 6 else ''}). Never ranked with the others."
            )
    return found


def _unknown(lines: Sequence[Line]) -> list[str]:
    doubts: dict[str, list[str]] = {}
    for line in lines:
        every = [one for r in line.results for s in r.sources for one in exposures(s.run).values()]
        for why in sorted({one.reason for one in every if one.state == "unknown"}):
            doubts.setdefault(why, []).append(method_label(line.setting))
    return [
        f"{listed(list(dict.fromkeys(names)))}: not known whether the checkpoint had seen the tested classes: {why}."
        for why, names in doubts.items()
    ]
