"""What `run.json` alone must fulfil: possible values that agree with each other and with the folder's name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from fssbench.records import Run, contamination

Problem = tuple[str, str]  # the field, and what is wrong with it

SHA256 = re.compile(r"[0-9a-f]{64}")
WEIGHTS = ("imagenet", "published", "random", "none", "checkpoint", "external")


def check_run(run: Run, folder: str) -> Iterator[Problem]:
    """Everything that can be wrong with `run.json` alone. `folder` is its folder's path, with slashes."""
    if not folder.endswith(f"/{run.id}"):
        yield "id", f"expected the end of its folder's path, {folder!r}, found {run.id!r}"
    yield from _created(run.created)
    for name, value in (("way", run.way), ("shot", run.shot)):
        if value < 1:
            yield name, f"expected at least 1, found {value}"
    yield from _folds(run)
    yield from _weights(run)
    yield from _exposure(run)
    yield from _bank(run)
    for name, seconds in run.seconds.items():
        if not seconds >= 0 or math.isinf(seconds):
            yield f"seconds.{name}", f"expected a time of at least 0, found {seconds}"
    for where in not_finite(run.model_dump(exclude={"seconds"})):
        yield where, "expected a finite number, found NaN or infinity"


def not_finite(value: Any, where: str = "") -> Iterator[str]:
    """The dotted places of every NaN or infinity in nested lists and dictionaries."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from not_finite(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from not_finite(inner, f"{where}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield where


def _created(text: str) -> Iterator[Problem]:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        yield "created", f"expected a time as 2026-01-31T12:00:00Z, found {text!r}"
        return
    if moment.utcoffset() != timedelta(0):
        yield "created", f"expected a time in UTC, ending in Z or +00:00, found {text!r}"


def _folds(run: Run) -> Iterator[Problem]:
    if not run.folds:
        yield "folds", "expected at least one fold, found none"
    if len(set(run.folds)) != len(run.folds):
        yield "folds", f"expected every fold once, found {run.folds}"
    for fold in sorted(set(run.folds) - set(run.bank.folds)):
        yield "folds", f"expected folds of the bank, {sorted(run.bank.folds)}, found {fold}"


def _weights(run: Run) -> Iterator[Problem]:
    for fold in sorted(set(run.folds) - set(run.weights)):
        yield f"weights.{fold}", "expected an entry for every fold that was run, found none"
    for fold, entry in run.weights.items():
        if not SHA256.fullmatch(entry.sha256):
            yield f"weights.{fold}.sha256", f"expected 64 hexadecimal digits, found {entry.sha256!r}"
        if entry.kind in ("imagenet", "published", "random", "none") and (
            entry.regime is not None or entry.contaminated
        ):
            yield f"weights.{fold}.regime", f"expected no training behind {entry.kind!r} weights, found one"
        if entry.kind not in WEIGHTS:
            yield f"weights.{fold}.kind", f"expected one of {', '.join(WEIGHTS)}, found {entry.kind!r}"


def _exposure(run: Run) -> Iterator[Problem]:
    """A checkpoint that was trained on tested classes has to say so."""
    for fold, seen in contamination(run).items():
        missing = [name for name in seen if name not in run.weights[fold].contaminated]
        if missing:
            yield (
                f"weights.{fold}.contaminated",
                f"expected the tested classes that it was trained on ({', '.join(missing[:4])}), found no mark",
            )


def _bank(run: Run) -> Iterator[Problem]:
    bank = run.bank
    for name, digest in (("fingerprint", bank.fingerprint), ("protocol_hash", bank.protocol_hash)):
        if not SHA256.fullmatch(digest):
            yield f"bank.{name}", f"expected 64 hexadecimal digits, found {digest!r}"
    if set(bank.episodes) != set(bank.folds):
        yield "bank.episodes", f"expected the folds {sorted(bank.folds)}, found {sorted(bank.episodes)}"
    for fold, classes in bank.folds.items():
        for unnamed in sorted(set(classes) - set(bank.class_names)):
            yield f"bank.folds.{fold}", f"class {unnamed} has no name in bank.class_names"
    if not bank.complete and not bank.note:
        yield "bank.note", "expected what was left out of a bank that is not complete, found nothing"
