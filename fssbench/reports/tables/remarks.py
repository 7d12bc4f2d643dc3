"""The sentences around a table: what was measured, why it is a table of its own, what its marks mean."""

from __future__ import annotations

from collections.abc import Sequence

from fssbench.protocol import Protocol
from fssbench.reports.entries.lens import limits
from fssbench.reports.entries.lines import Line
from fssbench.reports.entries.results import Place
from fssbench.reports.papers.beside import Beside, sentence

DATASETS = {"pascal5i": "PASCAL-5i", "coco20i": "COCO-20i", "fss1000": "FSS-1000", "shapes5i": "Shapes-5i"}


def title(place: Place) -> str:
    """Data set, ways and protocol."""
    protocol = f"{place.protocol}, scored as {place.lens}" if place.lens else place.protocol
    return f"{DATASETS.get(place.dataset, place.dataset)}, {place.way}-way, protocol {protocol}"


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
    found = [*_gaps(lines), *_labels(lines), *_spreads(lines)]
    if with_intervals:
        found.append(
            "Brackets: 95 % intervals, bootstrap over images (episodes that share query or support images are not "
            "independent)."
        )
    if with_published and not papers:
        found.append(f"No published numbers for these methods on {DATASETS.get(place.dataset, place.dataset)}.")
    found.extend(dict.fromkeys(sentence(line, paper) for line, paper in papers))
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


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
    merged = sorted({line.setting.title for line in lines if any(r.run.method.merged_ways for r in line.results)})
    if merged:
        found.append(f"One way at a time: {listed(merged)} was run once a way, and merged.")
    chosen = sorted({
        (line.setting.title, entry.regime.selection)
        for line in lines
        for result in line.results
        for entry in result.run.weights.values()
        if entry.kind == "checkpoint" and entry.regime is not None
    })  # fmt: skip
    found += [f"Checkpoints of {name} were selected on: {on}." for name, on in chosen]
    return found


def _spreads(lines: Sequence[Line]) -> list[str]:
    scores = [s for line in lines for shot in sorted(line.shots) if (s := line.scores(shot)) is not None]
    counts = sorted({s.repetitions for s in scores if s.mean_std is not None})
    if not counts:
        return []
    return [f"±: standard deviation over {listed([str(n) for n in counts])} repetitions (seeds or runs)."]
