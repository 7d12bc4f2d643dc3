"""Scoring masks that any program made on a bank's episodes. No torch, no method: pixels against label maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fssbench.errors import RecordError, UsageError
from fssbench.names import SEPARATOR
from fssbench.records import COLUMNS, BankEntry, Environment, MethodEntry, Run, WeightsEntry, write_record
from fssbench.regime import Regime
from fssbench.scoring.metrics import summarise
from fssbench.scoring.pixels import count_pixels, scored_label, validate_labels
from fssbench.scoring.rules import rules_of
from fssbench.submissions import open_submission

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes

Mask = Callable[[int, int], NDArray[np.uint8]]  # fold, episode -> H x W labels 0..N


@dataclass(frozen=True)
class Submission:
    """What is known of masks that came from elsewhere."""

    path: Path
    name: str
    shot: int
    title: str = ""
    backbone: str = "unknown"
    supervision: str = "mask"
    note: str = ""


def score_predictions(submission: Submission, bank: Bank, folds: Sequence[int] | None, out: Path, force: bool) -> Path:
    """Count the pixels of every episode and write a record; returns its folder.

    Raises `RecordError` for masks of another bank, for missing or surplus ones, for a wrong size or foreign values, and
    for an existing record without `force`.
    """
    if bank.protocol.scoring != "original":
        raise UsageError(
            f"the protocol {bank.protocol.name!r} scores at {bank.protocol.scoring}; masks from elsewhere "
            "are scored at the query's own size. Use a bank of a protocol that does (fssbench, bam, pfenet)."
        )
    wanted = list(folds) if folds is not None else sorted(bank.fold_classes)
    with open_submission(submission.path) as masks:
        masks.check(bank.fingerprint, str(bank.path), _episodes(bank, submission.shot), wanted)
        digest = masks.digest()
    identity = f"{submission.name}{submission.shot}{bank.fingerprint}{digest}{wanted}"
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in submission.name)
    label = f"{name}-external-{bank.ways}way-{submission.shot}shot"
    folder = out / bank.dataset / f"{label}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    if (folder / "run.json").exists() and not force:
        raise RecordError(f"{folder} exists already; --force scores again")
    with open_submission(submission.path) as masks:
        read = partial(masks.mask, ways=bank.ways)
        rows = [row for fold in wanted for row in score_fold(bank, fold, submission.shot, read)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    write_record(folder, _run(submission, bank, wanted, digest, frame, str(folder.relative_to(out))), frame)
    return folder


def score_fold(bank: Bank, fold: int, shot: int, mask: Mask) -> Iterator[list[object]]:
    """Rows of `episodes.csv.gz` for one fold; for several ways the background has a row of its own (way 0)."""
    episodes: Episodes = bank.episodes(fold, shot)
    ids = bank.image_ids
    for episode, query in enumerate(episodes.query.tolist()):
        classes = episodes.classes[episode].tolist()
        truth = scored_label(bank.masks.truth(query, classes), bank.protocol)
        prediction = mask(fold, episode)
        try:
            validate_labels(prediction, truth, len(classes))
        except ValueError as error:
            raise RecordError(f"fold {fold}, episode {episode} (query {ids[query]}): {error}") from error
        for way in range(1 if len(classes) == 1 else 0, len(classes) + 1):
            supports = episodes.support[episode, way - 1 if way else slice(None)].ravel().tolist()
            yield [
                fold, int(episodes.run[episode]), episode, int(episodes.group[episode]), way,
                classes[way - 1] if way else 0, ids[query], SEPARATOR.join(ids[s] for s in supports),
                *count_pixels(prediction, truth, way).tolist(),
            ]  # fmt: skip


def _run(submission: Submission, bank: Bank, folds: list[int], digest: str, frame: pd.DataFrame, name: str) -> Run:
    fold_classes = {fold: list(classes) for fold, classes in bank.fold_classes.items()}
    entry = WeightsEntry(kind="external", path=str(submission.path), sha256=digest, regime=Regime(note=submission.note))
    return Run(
        id=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=MethodEntry(
            name=submission.name,
            title=submission.title or submission.name,
            config={},
            supervision=submission.supervision,
        ),
        backbone=submission.backbone,
        input_size="unknown",
        weights=dict.fromkeys(folds, entry),
        bank=bank_entry(bank, submission.shot),
        way=bank.ways,
        shot=submission.shot,
        folds=folds,
        environment=Environment(device="unknown", precision="unknown", versions={}),
        summary=summarise(frame, fold_classes, rules_of(bank.protocol.model_dump())),
    )


def bank_entry(bank: Bank, shot: int) -> BankEntry:
    """What a record says of its bank."""
    return BankEntry(
        fingerprint=bank.fingerprint,
        image_fingerprint=bank.image_fingerprint,
        dataset=bank.dataset,
        protocol=bank.protocol.model_dump(mode="json"),
        protocol_hash=bank.protocol.hash,
        class_names=bank.class_names,
        folds={fold: list(classes) for fold, classes in bank.fold_classes.items()},
        episodes=_episodes(bank, shot),
        complete=not bank.note,
        note=bank.note,
    )


def _episodes(bank: Bank, shot: int) -> dict[int, int]:
    """Fold -> how many episodes it has."""
    return {fold: len(bank.episodes(fold, shot)) for fold in bank.fold_classes}
