"""Binding an index bank to a local copy of its data: every hash is checked, then the images are put in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fssbench.banks.bank import Bank
from fssbench.banks.generate import ImagePart, check_room, image_parts, part_of, read_stored
from fssbench.banks.scan import MaskFacts
from fssbench.banks.workers import spread
from fssbench.banks.writer import Plan, Stored, check_free, write_bank
from fssbench.datasets.base import Dataset
from fssbench.errors import BankError, DataError
from fssbench.progress import Progress, quiet

_SHOWN = 20  # differences that a message lists


def plan_of(bank: Bank) -> Plan:
    """Everything in a bank but bytes, as it was planned. Areas are not stored, so they are empty."""
    ids, sizes = bank.image_ids, bank.image_sizes.tolist()
    facts = {
        image_id: MaskFacts(height, width, bank.masks.hashes(i), {})
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
        annotations={kind: bank.masks.rule(kind) for kind in bank.masks.kinds if kind != "mask"},
        image_sha256=known,
    )


def attach(
    bank: Bank,
    dataset: Dataset,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = quiet,
    workers: int | None = 1,
) -> None:
    """Write the full bank of an index bank. Both have one fingerprint.

    Raises `DataError` listing the images and masks that are absent or differ, `BankError` if `out` exists.
    """
    check_free(out, force)
    plan = plan_of(bank)
    if plan.fingerprint != bank.fingerprint:
        raise BankError(f"{bank.path}: its content does not give its fingerprint. Copy or generate the index again.")
    parts = image_parts(plan)
    check_room(dataset, parts, out)
    found = spread(_read, dataset, parts, "copying images", workers=workers, progress=progress, part=part_of)
    write_bank(out, plan, _without_differences(bank, found), force=force)


def _read(dataset: Dataset, part: ImagePart) -> Stored | str:
    """The bytes of an image, or in what it is not what the plan says, in a line."""
    try:
        return read_stored(dataset, part)
    except DataError as error:
        return f"{part.image_id}: {str(error).partition('. ')[0]}"


def _without_differences(bank: Bank, found: Iterable[Stored | str]) -> Iterator[Stored]:
    """What was read. Once anything differs nothing more is copied, but all of it looked at, for the `DataError`."""
    problems: list[str] = []
    for item in found:
        if isinstance(item, str):
            problems.append(item)
        elif not problems:
            yield item
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        listed = "\n  ".join([*problems[:_SHOWN], *more])
        raise DataError(
            f"{bank.path}: expected the data it was made from, found {len(problems)} differences:\n  {listed}\n"
            "Name another copy of the data by --root, or generate a bank of your own from this one."
        )
