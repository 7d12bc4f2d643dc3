"""Checking everything in a bank that can be checked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import Bank
from fssbench.banks.generate import annotation_codes, check_image
from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts, Progress, quiet
from fssbench.errors import FssbenchError


def problems(bank: Bank, progress: Progress = quiet) -> Iterator[str]:
    """What is wrong with an opened bank, one line each; nothing if all is well."""
    plan = plan_of(bank)
    if plan.fingerprint != bank.fingerprint:
        yield f"fingerprint: {bank.fingerprint} stored, {plan.fingerprint} computed from the content"
    ids = bank.image_ids
    if any(first >= second for first, second in pairwise(ids)):
        yield "images: not in ascending order, or one twice"
    for (fold, shots), episodes in plan.episodes.items():
        yield from (f"fold {fold}, {shots} shots: {line}" for line in _episode_problems(bank, fold, episodes))
    if bank.has_images:
        numbers = {image_id: i for i, image_id in enumerate(ids)}
        for image_id in progress(ids, "checking images and masks"):
            yield from _image_problems(bank, numbers[image_id])
        yield from _annotation_problems(bank, progress)


def _episode_problems(bank: Bank, fold: int, episodes: Episodes) -> Iterator[str]:
    count = len(bank.image_ids)
    for column in ("query", "support", "auxiliary"):
        values = getattr(episodes, column)
        if values is not None and values.size and not 0 <= values.min() <= values.max() < count:
            yield f"{column} names images that are not in the bank"
    if not np.isin(episodes.classes, bank.fold_classes[fold]).all():
        yield "classes that are not the fold's"
    flat = episodes.support.reshape(len(episodes), -1)
    if (flat == episodes.query[:, None]).any():
        yield "a query among its supports"
    repeated = sum(len(set(row)) < len(row) for row in flat.tolist())
    if repeated and bank.protocol.support_draw == "distinct":
        yield f"{repeated} episodes with one support twice"


def _image_problems(bank: Bank, i: int) -> Iterator[str]:
    height, width = bank.image_sizes[i].tolist()
    try:
        if bank.label_map(i).shape != (height, width):
            yield f"{bank.image_ids[i]}: another size than stored"
        check_image(bank.image_bytes(i), MaskFacts(height, width, "", {}), f"image of {bank.image_ids[i]}")
    except FssbenchError as error:
        yield str(error)


def _annotation_problems(bank: Bank, progress: Progress) -> Iterator[str]:
    plan = plan_of(bank)
    for kind, rule in plan.annotations.items():
        numbers = {f"{image} {class_id}": (image, class_id) for image, class_id in plan.annotated()}
        for key in progress(list(numbers), f"checking {kind} annotations"):
            image, class_id = numbers[key]
            image_id = bank.image_ids[image]
            expected = annotation_codes(kind, rule, bank.label_map(image), image_id, class_id)
            if not np.array_equal(bank.annotation(kind, image, class_id), expected):
                yield f"{image_id}: its {kind} for class {class_id} is not what rule and seed give"
