"""Synthetic records that are consistent in themselves, with rows made up or with masks made on a bank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fssbench.banks.bank import open_bank
from fssbench.datasets.base import VOID
from fssbench.predictions import encode_label, write_predictions
from fssbench.protocol import Protocol
from fssbench.protocols import FSSBENCH
from fssbench.records import (
    COLUMNS,
    BankEntry,
    Environment,
    MethodEntry,
    Record,
    Run,
    WeightsEntry,
    read_record,
    write_record,
)
from fssbench.regime import Regime
from fssbench.score import bank_entry, score_fold
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import rules_of

PIXELS = 100 * 100


def make_record(folder: Path, method: str = "panet", **options: Any) -> Record:
    """Write what `synthetic` makes of the options, and give it back as it is read."""
    write_record(folder, *synthetic(folder.name, method, **options))
    return read_record(folder)


def synthetic(
    name: str,
    method: str = "panet",
    *,
    title: str | None = None,
    config: Mapping[str, Any] | None = None,
    backbone: str = "resnet50",
    weights: str = "imagenet",
    regime: Regime | None = None,
    miou: float = 0.4,
    fold_iou: Mapping[int, float] | None = None,
    way: int = 1,
    shot: int = 1,
    folds: Sequence[int] = (0, 1, 2, 3),
    bank_folds: Sequence[int] = (0, 1, 2, 3),
    classes_per_fold: int = 5,
    episodes: int = 20,
    bank_episodes: int | None = None,
    runs: int = 1,
    seed: int = 0,
    bank_seed: int = 0,
    dataset: str = "shapes5i",
    protocol: Protocol = FSSBENCH,
    fingerprint: str | None = None,
    our_reading: bool = False,
    supervision: str = "mask",
    annotation: str = "mask",
    complete: bool = True,
    note: str = "",
    **changes: Any,
) -> tuple[Run, pd.DataFrame]:
    """A run and its rows. Episodes follow from `bank_seed` (images, sizes), the masks' quality from `seed` and `miou`.

    With `fold_iou` every episode of a fold has exactly that IoU: a union of 1000 px, no pixel missed.

    `changes` replaces fields of `Run`. Records with equal `dataset`, `protocol`, `bank_seed` and `bank_folds` share
    their fingerprint and episodes, so they can be compared.
    """
    fold_classes = {f: list(range(1 + f * classes_per_fold, 1 + (f + 1) * classes_per_fold)) for f in bank_folds}
    rows = [
        row
        for fold in folds
        for run in range(runs)
        for row in _episode_rows(fold, run, fold_classes[fold], episodes, way, shot, miou, seed, bank_seed)
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if fold_iou is not None:
        tp = (frame["fold"].map(fold_iou) * 1000).round().astype(int)
        frame["tp"], frame["fp"], frame["fn"] = tp, 1000 - tp, 0
        frame["tn"] = PIXELS - 1000 - frame["ignored_fg"] - frame["ignored_bg"]
    identity = f"{dataset} {protocol.hash} {bank_seed} {list(bank_folds)} {way}"
    entry = {
        "id": name,
        "created": "2026-01-02T03:04:05Z",
        "method": MethodEntry(
            name=method,
            title=title or method,
            config=dict(config or {}),
            our_reading=our_reading,
            supervision=supervision,
        ),
        "backbone": backbone,
        "input_size": "417x417 squash",
        "weights": {f: WeightsEntry(kind=weights, sha256=_sha(f"{weights} {f}"), regime=regime) for f in folds},
        "bank": BankEntry(
            fingerprint=fingerprint or _sha(identity),
            dataset=dataset,
            protocol=protocol.model_dump(mode="json"),
            protocol_hash=protocol.hash,
            class_names={c: f"class {c}" for classes in fold_classes.values() for c in classes},
            folds=fold_classes,
            episodes=dict.fromkeys(bank_folds, (bank_episodes or episodes) * runs),
            complete=complete,
            note=note,
        ),
        "way": way,
        "shot": shot,
        "annotation": annotation,
        "folds": list(folds),
        "seed": seed,
        "environment": Environment(
            device="cpu", precision="float32", versions={"fssbench": "0.1.0", "python": "3.11", "torch": "2.11"}
        ),
        "seconds": {"total": 12.5},
        "summary": summarise(frame, fold_classes, rules_of(protocol.model_dump())),
    }
    return Run.model_validate({**entry, **changes}), frame


def shifted_record(bank_path: Path, results: Path, shot: int = 2) -> Path:
    """A record with predictions: the truth moved right by 0 to 8 px, further with the number of the first support."""
    folder = results / "shifted"
    with open_bank(bank_path) as bank:

        def predicted(fold: int, episode: int) -> NDArray[np.uint8]:
            episodes = bank.episodes(fold, shot)
            truth = bank.masks.truth(int(episodes.query[episode]), episodes.classes[episode].tolist())
            first = bank.image_ids[episodes.support[episode, 0, 0]]
            return np.roll(np.where(truth == VOID, 0, truth), int(first[1:]) % 9, axis=1)

        folds = {fold: list(classes) for fold, classes in bank.fold_classes.items()}
        rows = [row for fold in folds for row in score_fold(bank, fold, shot, predicted)]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        run = Run(
            id="shifted",
            created="2026-01-02T03:04:05+00:00",
            method=MethodEntry(name="shifted", title="Shifted", config={}),
            backbone="none",
            input_size="native",
            weights={fold: WeightsEntry(kind="random", sha256="0" * 64) for fold in folds},
            bank=bank_entry(bank, shot),
            way=bank.ways,
            shot=shot,
            folds=list(folds),
            environment=Environment(device="cpu", precision="float32", versions={}),
            summary=summarise(frame, folds, rules_of(bank.protocol.model_dump())),
        )
        write_record(folder, run, frame)
        asked = [(fold, episode) for fold in folds for episode in range(len(bank.episodes(fold)))]
        masks = ((*which, encode_label(predicted(*which))) for which in asked)
        write_predictions(folder / "predictions.h5", bank.fingerprint, masks, "shifted")
    return folder


def _episode_rows(
    fold: int,
    run: int,
    classes: Sequence[int],
    episodes: int,
    way: int,
    shot: int,
    miou: float,
    seed: int,
    bank_seed: int,
) -> Iterator[list[Any]]:
    bank = np.random.default_rng([bank_seed, fold, run, way])
    quality = np.random.default_rng([seed, fold, run, way, shot, 7])
    for episode in range(episodes):
        query, *_ = bank.integers(0, 30, 1)
        pool = bank.permutation(29)
        for number in range(way):
            class_id = classes[(episode + number) % len(classes)]
            supports = [f"{class_id:02d}_{(query + 1 + s) % 30:03d}" for s in pool[:shot]]
            size, ignored = int(np.random.default_rng([bank_seed, int(query), class_id]).integers(400, 3000)), 500
            tp, fp, fn = _counts(size, float(np.clip(quality.normal(miou, 0.15), 0.02, 0.97)))
            ignored_fg = int(quality.integers(0, ignored))
            image = f"{classes[episode % len(classes)]:02d}_{query:03d}"
            counts = [tp, fp, fn, PIXELS - ignored - tp - fp - fn, ignored_fg, ignored - ignored_fg]
            yield [fold, run, episode, episode, number + 1, class_id, image, "|".join(supports), *counts]


def _counts(size: int, quality: float) -> tuple[int, int, int]:
    """TP, FP, FN of a mask over an object of `size` px with about this IoU, errors on both sides."""
    union = round(size * 2 / (1 + quality))
    tp = round(quality * union)
    return tp, union - size, size - tp


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rewrite(record: Record, **changes: Any) -> None:
    """Change fields of a record's run.json."""
    run = record.run.model_copy(update=changes)
    (record.path / "run.json").write_text(run.model_dump_json(), encoding="utf-8")


def with_weights(record: Record, **changes: Any) -> None:
    """Change fields of every fold's weights; `sha` is one letter of their hash."""
    sha = changes.pop("sha", None)
    update = changes | ({"sha256": sha * 64} if sha else {})
    rewrite(record, weights={f: entry.model_copy(update=update) for f, entry in record.run.weights.items()})
