"""The sentences around a table: what was measured, why it is a table of its own, what its marks mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from fssbench.protocol import Protocol
from fssbench.records import Run, contamination, exposures
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
    bank = lines[0].run.bank
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
    files = _who(lines, lambda run: [run.bank.image_fingerprint[:12]] if run.bank.image_fingerprint else [])
    if len(files) > 1:
        by = "; ".join(f"{name}: {listed(sorted(who))}" for name, who in sorted(files.items()))
        sentences.append(f"The image files differ, though not their masks and episodes (image fingerprint {by}).")
    if lens is not None:
        sentences.extend(limits(lines[0].results[0], lens))
    return (*sentences, *([why] if why else []))


def reason(place: Place, places: Sequence[Place]) -> str:
    """Why this is a table of its own, where there are several."""
    words = {
        "dataset": "data set",
        "protocol_hash": "protocol",
        "way": "number of ways",
        "fingerprint": "episodes (bank fingerprint)",
        "episodes": "part of the bank that was run",
    }
    named = [said for field, said in words.items() if len({getattr(other, field) for other in places}) > 1]
    return f"A table of its own, because others differ in {listed(named)}: not comparable." if named else ""


def notes(
    place: Place, lines: Sequence[Line], papers: Sequence[Beside], *, with_intervals: bool, with_published: bool
) -> tuple[str, ...]:
    """What stands below the numbers."""
    found = [*_exposed(lines), *_gaps(lines), *_labels(lines), *_spreads(lines), *_repeats(lines)]
    if with_intervals:
        found.append(
            "Brackets: 95 % intervals over images (and over trainings where there are several); Student's t with a "
            "standard error for episodes that share queries and supports, skewed as a bootstrap over images is."
        )
    if with_published and not papers:
        found.append(f"No published numbers for these methods on {DATASETS.get(place.dataset, place.dataset)}.")
    found.extend(dict.fromkeys(map(sentence, papers)))
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _who(lines: Iterable[Line], facts: Callable[[Run], Iterable[str]], *, title: bool = False) -> dict[str, list[str]]:
    """Of which methods each fact holds, by what their records say; with `title` by name alone."""
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        for fact in dict.fromkeys(fact for run in line.runs for fact in facts(run)):
            found.setdefault(fact, {})[line.setting.title if title else line.label] = None
    return {fact: list(names) for fact, names in found.items()}


def _exposed(lines: Sequence[Line]) -> list[str]:
    """Which checkpoints were trained on tested classes, and of which nobody knows."""
    found = []
    for line in (line for line in lines if line.setting.contaminated):
        seen = sorted({name for run in line.runs for classes in contamination(run).values() for name in classes})
        found.append(
            f"{line.label}: its checkpoint was trained on tested classes ({listed(seen[:6])}"
            f"{' and more' if len(seen) > 6 else ''}). Never ranked with the others."
        )
    doubts = _who(lines, lambda run: sorted({e.reason for e in exposures(run).values() if e.state == "unknown"}))
    return found + [
        f"{listed(who)}: not known whether the checkpoint had seen the tested classes: {why}."
        for why, who in doubts.items()
    ]


def _gaps(lines: Sequence[Line]) -> list[str]:
    summaries = [result.summary for line in lines for result in line.results]
    found = []
    if any(summary.missing_folds or summary.miou is None for summary in summaries):
        found.append("A dash: not run, or undefined. There is no mean while a fold is missing.")
    absent = sorted({c for summary in summaries for part in summary.folds.values() for c in part.absent})
    if absent:
        names = lines[0].run.bank.class_names
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
        if lost := max(run.vanished_supports or 0 for run in line.runs):
            found.append(f"{line.label}: {lost} supports had no pixel of their object at its input size.")
    merged = _who(lines, lambda run: ["merged"] if run.method.merged_ways else [], title=True)
    found += [f"One way at a time: {listed(sorted(who))} was run once a way, and merged." for who in merged.values()]
    chosen = _who(lines, _selections, title=True)
    if len(chosen) == 1 and len(next(iter(chosen.values()))) > 1:
        return [*found, f"All checkpoints were selected on: {next(iter(chosen))}."]
    return [*found, *(f"Checkpoints of {listed(sorted(who))} were selected on: {on}." for on, who in chosen.items())]


def _selections(run: Run) -> list[str]:
    return [e.regime.selection for e in run.weights.values() if e.kind == "checkpoint" and e.regime is not None]


def _spreads(lines: Sequence[Line]) -> list[str]:
    scores = [s for line in lines for shot in sorted(line.shots) if (s := line.scores(shot)) is not None]
    trainings = sorted({str(s.trainings) for s in scores if s.training_std is not None}, key=int)
    runs = sorted({str(s.runs) for s in scores if s.run_std is not None}, key=int)
    found = [f"over {listed(trainings)} trainings"] if trainings else []
    found += [f"over {listed(runs)} runs (seeds of the episodes) of one training"] if runs else []
    return [f"±: standard deviation {', or '.join(found)}."] if found else []


def _repeats(lines: Sequence[Line]) -> list[str]:
    """Further records of the same: said, never averaged in."""
    found = []
    for result in [result for line in lines for result in line.results]:
        for other in result.repeats:
            first = next(s for s in result.sources if set(s.run.folds) & set(other.run.folds))
            whose = f"{method_label(result.setting)}, {result.shot}-shot ({other.path.name})"
            if other.run.created == first.run.created and other.summary == first.summary:
                found.append(f"The same record twice: {whose}; it counts once.")
                continue
            again = other.run.environment.host == first.run.environment.host
            fold = next(f for f in other.summary.folds if f in first.summary.folds)
            both = (other.summary.folds[fold].miou, first.summary.folds[fold].miou)
            values = " and ".join("-" if value is None else f"{100 * value:.2f}" for value in both)
            where = "again on the same machine" if again else "elsewhere"
            found.append(f"Repeated {where}: {whose}; fold {fold}: {values} here.")
    return found
