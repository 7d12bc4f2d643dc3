"""A bank with worse photographs: the same episodes and masks, its queries, supports or both corrupted.

A corrupted copy is an image of its own, named after the image it was made of, so that one image may be clean as support
and corrupted as query. The protocol says what was done; so the fingerprint differs from the clean bank's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import Bank
from fssbench.banks.corruptions import Corruption, clean_id
from fssbench.banks.generate import write_plan
from fssbench.banks.sampling import Episodes
from fssbench.banks.writer import Plan, check_free
from fssbench.datasets.base import Dataset, Mask
from fssbench.errors import UsageError
from fssbench.progress import Progress, quiet


class Corrupted(Dataset):
    """A data set together with the corrupted copies of its images, by their names."""

    def __init__(self, clean: Dataset, corruption: Corruption) -> None:
        self._clean, self._corruption = clean, corruption
        self.name, self.pool, self.split = clean.name, clean.pool, clean.split
        self.class_names, self.folds = clean.class_names, clean.folds

    def image_ids(self) -> Sequence[str]:
        clean = self._clean.image_ids()
        return [*clean, *map(self._corruption.renamed, clean)]

    def image_bytes(self, image_id: str) -> bytes:
        clean = clean_id(image_id)
        encoded = self._clean.image_bytes(clean)
        return encoded if clean == image_id else self._corruption.apply(encoded, clean)

    def masks(self, image_id: str) -> Sequence[Mask]:
        return self._clean.masks(clean_id(image_id))

    def part(self, image_ids: Sequence[str]) -> Dataset:
        return Corrupted(self._clean.part([*dict.fromkeys(map(clean_id, image_ids))]), self._corruption)


class Frozen(Dataset):
    """The images and masks of a bank, as a data set."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.name, self.pool, self.split = bank.dataset, bank.pool, bank.protocol.split
        self.class_names, self.folds = bank.class_names, tuple(bank.fold_classes.values())

    def image_ids(self) -> Sequence[str]:
        return self._bank.image_ids

    def image_bytes(self, image_id: str) -> bytes:
        return self._bank.image_bytes(self._number[image_id])

    def masks(self, image_id: str) -> Sequence[Mask]:
        return self._bank.masks.files(self._number[image_id])

    @cached_property
    def _number(self) -> dict[str, int]:
        return {image_id: number for number, image_id in enumerate(self._bank.image_ids)}


def corrupt(
    bank: Bank,
    corruption: Corruption,
    out: Path,
    *,
    index: bool = False,
    force: bool = False,
    progress: Progress = quiet,
    workers: int | None = 1,
) -> None:
    """Write the corrupted bank of a clean one that holds its images.

    Raises `BankError` for an index bank or if `out` exists, `UsageError` for a bank that is corrupted already.
    """
    check_free(out, force)
    if bank.protocol.corruption:
        raise UsageError(f"{bank.path}: expected a clean bank, found one of {bank.protocol.corruption}.")
    bank.image_bytes(0)  # raises for an index bank
    data = Corrupted(Frozen(bank), corruption)
    write_plan(
        data, corrupted(plan_of(bank), corruption), out, index=index, force=force, progress=progress, workers=workers
    )


def corrupted(plan: Plan, corruption: Corruption) -> Plan:
    """The plan of the corrupted bank."""
    both, queries = corruption.target == "both", corruption.target in ("both", "queries")
    supports = both or corruption.target == "supports"
    worse = [corruption.renamed(image_id) for image_id in plan.image_ids]
    used: set[str] = set()

    def names(column: NDArray[np.int64] | None, corrupt: bool) -> NDArray[np.object_] | None:
        if column is None:
            return None
        found = np.array(worse if corrupt else plan.image_ids, dtype=object)[column]
        used.update(found.ravel().tolist())
        return found

    named = {
        key: (names(e.query, queries), names(e.support, supports), names(e.auxiliary, supports))
        for key, e in plan.episodes.items()
    }
    place = {image_id: number for number, image_id in enumerate(sorted(used))}

    def numbered(episodes: Episodes, columns: Sequence[NDArray[np.object_] | None]) -> Episodes:
        query, support, auxiliary = (
            None if c is None else np.vectorize(place.__getitem__, otypes=[np.int64])(c) for c in columns
        )
        assert query is not None
        assert support is not None
        return replace(episodes, query=query, support=support, auxiliary=auxiliary)

    return replace(
        plan,
        protocol=plan.protocol.but(corruption=str(corruption)),
        images={image_id: plan.images[clean_id(image_id)] for image_id in used},
        episodes={key: numbered(plan.episodes[key], columns) for key, columns in named.items()},
        image_sha256={image_id: digest for image_id, digest in plan.image_sha256.items() if image_id in used},
    )
