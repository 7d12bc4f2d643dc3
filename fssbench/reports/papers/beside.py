"""A paper's numbers beside ours: which of its rows belongs to a line, and in words what differs."""

from __future__ import annotations

from dataclasses import dataclass

from fssbench.protocols import PROTOCOLS
from fssbench.reports.entries.differences import (
    draw_differences,
    input_difference,
    resolution_difference,
    rule_differences,
)
from fssbench.reports.entries.lines import Line
from fssbench.reports.papers.registry import PaperScores, backbone_key, scores_for

TRAINING_FREE = ("persam", "matcher", "gfsam")  # their papers train nothing either
_USUAL = ("resnet50", "vgg16", "resnet101")  # whose numbers to show where the paper has none for our backbone
_TRAINING = {
    "imagenet": "training (ours is untrained)",
    "published": "training (ours is untrained)",
    "random": "training (ours is untrained, with random weights)",
    "none": "training (ours has nothing to learn)",
    "checkpoint": "training (by fssbench; training images: {})",
    "external": "training (not known: predictions from elsewhere)",
}


@dataclass(frozen=True)
class Beside:
    """A paper's row for one line: its numbers by shot, all for one backbone."""

    backbone: str
    shots: dict[int, PaperScores]
    differs: tuple[str, ...]
    comparable: bool  # same backbone, trained, all images: a difference says something

    @property
    def label(self) -> str:
        """Paper and year."""
        first = next(iter(self.shots.values()))
        return f"{first.method} ({first.venue} {first.year})"

    @property
    def verified(self) -> bool:
        """Whether all its numbers were read from a source."""
        return all(scores.verified for scores in self.shots.values())


def beside(line: Line) -> Beside | None:
    """What the papers say of this line's method, at its backbone or else at a usual one; None if nothing."""
    found = {shot: scores_for(line.setting, line.place, shot) for shot in sorted(line.shots)}
    names = list(dict.fromkeys(name for by_backbone in found.values() for name in by_backbone))
    if not names:
        return None
    ours = backbone_key(line.setting.backbone)
    chosen = next((name for name in (ours, *_USUAL) if name in names), names[0])
    shots = {shot: by_backbone[chosen] for shot, by_backbone in found.items() if chosen in by_backbone}
    backbone = next(iter(shots.values())).backbone
    run, kinds = line.run, set(line.setting.weights.split(" and "))
    trained = kinds <= {"checkpoint", "authors"} or run.method.name in TRAINING_FREE
    comparable = chosen == ours and trained and run.bank.complete and not line.setting.contaminated
    return Beside(backbone, shots, differences_of(line, backbone if chosen != ours else None), comparable)


def sentence(paper: Beside) -> str:
    """Where the paper's row comes from."""
    sources = list(dict.fromkeys(source for scores in paper.shots.values() for source in scores.sources))
    parts = [f"{paper.label}, {paper.backbone}: " + ("; ".join(sources) or "no source that could be read")]
    if not paper.verified:
        parts.append("Numbers with ~ are unverified: from memory")
    if any(span.low != span.high for scores in paper.shots.values() for span in scores.numbers.values()):
        parts.append("Ranges: sources disagree")
    notes = list(dict.fromkeys(note for scores in paper.shots.values() for note in scores.notes))
    if notes:
        parts.append("They say: " + "; ".join(notes))
    return ". ".join(parts) + "."


def differences_of(line: Line, other_backbone: str | None) -> tuple[str, ...]:
    """What separates a line from its method's paper, in words; `other_backbone` is the paper's, if not the line's."""
    run = line.run
    words = []
    if other_backbone is not None:
        words.append(f"backbone ({line.setting.backbone}, not {other_backbone})")
    words += [_TRAINING[kind].format(_training_list(line)) for kind in _TRAINING if kind in line.setting.weights]
    if not run.bank.complete:
        words.append(f"images (incomplete bank: {run.bank.note})")
    theirs = PROTOCOLS.get(line.setting.method)
    if theirs is None:
        words.append("protocol (the paper's is not known to fssbench)")
    elif theirs.hash != line.place.protocol_hash:
        ours = run.bank.protocol
        words += [f"protocol ({line.place.protocol}, not {theirs.name})", resolution_difference(ours, theirs)]
        words += draw_differences(ours, theirs)
        words += [] if line.place.lens == theirs.name else rule_differences(ours, theirs)
    words += [] if theirs is None else [input_difference(run.input_size, theirs)]
    return tuple(filter(None, words))


def _training_list(line: Line) -> str:
    cards = [entry.regime for run in line.runs for entry in run.weights.values()]
    lists = {card.image_list if card is not None and card.image_list else "not stated" for card in cards}
    return " and ".join(sorted(lists))
