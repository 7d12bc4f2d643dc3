"""Binding an index bank to a local copy of its data: every hash is checked, then the images are put in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fssbench.banks.bank import Bank
from fssbench.banks.generate import check_image, write_plan
from fssbench.banks.scan import MaskFacts, Progress, quiet
from fssbench.banks.writer import Plan, check_free
from fssbench.datasets.base import Dataset, layers
from fssbench.errors import BankError, DataError

_SHOWN = 20  # differences that a message lists


def plan_of(bank: Bank) -> Plan:
    """Everything in a bank but bytes, as it was planned. Areas are not stored, so they are empty."""
    ids, sizes = bank.image_ids, bank.image_sizes.tolist()
    facts = {
        image_id: MaskFacts(height, width, bank.mask_hashes(i), {})
        for i, (image_id, (height, width)) in enumerate(zip(ids, sizes, strict=True))
    }
    known = {image_id: bank.image_sha256(i) for i, image_id in enumerate(ids) if bank.image_sha256(i)}
    return Plan(
        dataset=bank.dataset,
        pool=bank.pool,
        protocol=bank.protocol,
        class_names=bank.class_names,
        fold_classes=bank.fold_classes,
        images=facts,
        episodes={(fold, shots): bank.episodes(fold, shots) for fold in bank.fold_classes for shots in bank.draws},
        note=bank.note,
        annotations={kind: bank.annotation_rule(kind) for kind in bank.annotation_kinds if kind != "mask"},
        image_sha256=known,
    )


def attach(bank: Bank, dataset: Dataset, out: Path, *, force: bool = False, progress: Progress = quiet) -> None:
    """Write the full bank of an index bank. Both have one fingerprint.

    Raises `DataError` listing the images and masks that are absent or differ, `BankError` if `out` exists.
    """
    check_free(out, force)
    plan = plan_of(bank)
    if plan.fingerprint != bank.fingerprint:
        raise BankError(f"{bank.path}: its content does not give its fingerprint. Copy or generate the index again.")
    problems = list(differences(dataset, plan, progress))
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        listed = "\n  ".join([*problems[:_SHOWN], *more])
        raise DataError(
            f"{bank.path}: expected the data it was made from, found {len(problems)} differences:\n  {listed}\n"
            "Name another copy of the data by --root, or generate a bank of your own from this one."
        )
    write_plan(dataset, plan, out, force=force, progress=progress)


def differences(dataset: Dataset, plan: Plan, progress: Progress = quiet) -> Iterator[str]:
    """In what a data set is not what a plan was made from, one line an image."""
    for image_id in progress(plan.image_ids, "checking hashes"):
        problem = _difference(dataset, plan, image_id)
        if problem:
            yield f"{image_id}: {problem}"


def _difference(dataset: Dataset, plan: Plan, image_id: str) -> str:
    facts = plan.images[image_id]
    try:
        found = layers(dataset, image_id).hashes
        image = dataset.image_bytes(image_id)
        check_image(image, facts, f"image of {image_id}")
    except DataError as error:
        return str(error).partition(". ")[0]
    if found != facts.masks:
        return f"another mask (label map {_short(facts.masks)} expected, {_short(found)} found)"
    expected, digest = plan.image_sha256.get(image_id, ""), hashlib.sha256(image).hexdigest()
    if expected and expected != digest:
        return f"another image file (SHA-256 {expected[:12]}... expected, {digest[:12]}... found)"
    return ""


def _short(masks: tuple[tuple[int, str], ...]) -> str:
    return ", ".join(f"{f'of class {class_id}: ' if class_id else ''}{digest[:12]}..." for class_id, digest in masks)
