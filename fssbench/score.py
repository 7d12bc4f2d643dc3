"""Scoring masks that any program made on a bank's episodes. No torch, no method: pixels against label maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fssbench.errors import RecordError, UsageError
from fssbench.files import sha256_file
from fssbench.predictions import open_predictions
from fssbench.records import COLUMNS, SEPARATOR, BankEntry, Environment, MethodEntry, Run, WeightsEntry, write_record
from fssbench.regime import Regime
from fssbench.scoring.metrics import summarise
from fssbench.scoring.pixels import count_pixels, validate_labels
from fssbench.scoring.rules import rules_of

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

    Raises `RecordError` for a missing episode, a mask of the wrong size or with foreign values, and for an existing
    record without `force`.
    """
    if bank.protocol.scoring != "original":
        raise UsageError(
            f"the protocol {bank.protocol.name!r} scores at {bank.protocol.scoring}; masks from elsewhere "
            "are scored at the query's own size. Use a bank of a protocol that does (fssbench, bam, pfenet)."
        )
    wanted = list(folds) if folds is not None else sorted(bank.fold_classes)
    digest = _content_sha256(submission.path)
    identity = f"{submission.name}{submission.shot}{bank.fingerprint}{digest}{wanted}"
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in submission.name)
    label = f"{name}-external-{bank.ways}way-{submission.shot}shot"
    folder = out / bank.dataset / f"{label}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    if (folder / "run.json").exists() and not force:
        raise RecordError(f"{folder} exists already; --force scores again")
    with _Masks(submission.path, bank) as mask:
        rows = [row for fold in wanted for row in score_fold(bank, fold, submission.shot, mask)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    write_record(folder, _run(submission, bank, wanted, digest, frame, str(folder.relative_to(out))), frame)
    return folder


def score_fold(bank: Bank, fold: int, shot: int, mask: Mask) -> Iterator[list[object]]:
    """Rows of `episodes.csv` for one fold; for several ways the background has a row of its own (way 0)."""
    episodes: Episodes = bank.episodes(fold, shot)
    ids = bank.image_ids
    for episode, query in enumerate(episodes.query.tolist()):
        classes = episodes.classes[episode].tolist()
        truth = bank.truth(query, classes)
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


class _Masks:
    """Masks from an HDF5 file of predictions, or from PNG files `<fold>/<episode>.png`."""

    def __init__(self, path: Path, bank: Bank) -> None:
        self._folder = path if path.is_dir() else None
        self._file = None if path.is_dir() else open_predictions(path)
        if self._file is not None and self._file.bank not in ("", bank.fingerprint):
            raise RecordError(
                f"{path} holds predictions for the bank {self._file.bank[:12]}, expected {bank.fingerprint[:12]} "
                f"({bank.path}). Results on different episodes cannot be compared; name the right --bank."
            )

    def __enter__(self) -> Mask:
        return self._mask

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.__exit__(None, None, None)

    def _mask(self, fold: int, episode: int) -> NDArray[np.uint8]:
        if self._folder is None or self._file is not None:
            if self._file is None:
                raise RuntimeError("neither a folder nor a file")
            return self._file.mask(fold, episode)
        path = self._folder / str(fold) / f"{episode}.png"
        try:
            with Image.open(path) as image:
                if image.mode not in ("L", "P", "1"):
                    raise RecordError(f"{path}: expected a grey or palette PNG of labels, found mode {image.mode}")
                return np.asarray(image, dtype=np.uint8)  # of a 1-bit image: 0 and 1
        except (OSError, SyntaxError) as error:
            raise RecordError(
                f"{path}: expected the mask of fold {fold}, episode {episode}, found none that can be read ({error}). "
                "Every episode needs its <fold>/<episode>.png."
            ) from error


def _content_sha256(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    files = sorted(path.rglob("*.png"))
    if not files:
        raise RecordError(f"{path}: expected predictions.h5 or a folder of <fold>/<episode>.png, found neither")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


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
        episodes={fold: len(bank.episodes(fold, shot).query) for fold in bank.fold_classes},
        complete=not bank.note,
        note=bank.note,
    )
