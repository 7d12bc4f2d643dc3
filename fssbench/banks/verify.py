"""Checking everything in a bank that can be checked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import Bank
from fssbench.banks.fingerprint import image_fingerprint
from fssbench.banks.generate import annotation_codes, check_image
from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts, Progress, quiet
from fssbench.banks.seal import check_body, read_seal
from fssbench.errors import BankError, FssbenchError


def problems(bank: Bank, progress: Progress = quiet) -> Iterator[str]:
    """What is wrong with an opened bank, one line each; nothing if all is well."""
    try:
        check_body(bank.path, read_seal(bank.path))
        plan = plan_of(bank)
    except BankError as error:
        yield str(error)
        return
    if plan.fingerprint != bank.fingerprint:
        yield f"fingerprint: {bank.fingerprint} stored, {plan.fingerprint} computed from the content"
    files = image_fingerprint(bank.fingerprint, [bank.image_sha256(i) for i in range(len(bank.image_ids))])
    if files != bank.image_fingerprint:
        yield f"image fingerprint: {bank.image_fingerprint or 'none'} stored, {files or 'none'} computed"
    for (fold, shots), episodes in plan.episodes.items():
        yield from (f"fold {fold}, {shots} shots: {line}" for line in _episode_problems(bank, episodes))
    if bank.has_images:
        numbers = {image_id: i for i, image_id in enumerate(bank.image_ids)}
        for image_id in progress(bank.image_ids, "checking images and masks"):
            yield from _image_problems(bank, numbers[image_id])
        yield from _annotation_problems(bank, progress)


def _episode_problems(bank: Bank, episodes: Episodes) -> Iterator[str]:
    flat = episodes.support.reshape(len(episodes), -1)
    if (flat == episodes.query[:, None]).any():
        yield "a query among its supports"
    repeated = sum(len(set(row)) < len(row) for row in flat.tolist())
    if repeated and bank.protocol.support_draw == "distinct":
        yield f"{repeated} episodes with one support twice"


def _image_problems(bank: Bank, i: int) -> Iterator[str]:
    height, width = bank.image_sizes[i].tolist()
    try:
        bank.layers(i)
        check_image(bank.image_bytes(i), MaskFacts(height, width, (), {}), f"image of {bank.image_ids[i]}")
    except FssbenchError as error:
        yield str(error)


def _annotation_problems(bank: Bank, progress: Progress) -> Iterator[str]:
    plan = plan_of(bank)
    for kind, rule in plan.annotations.items():
        numbers = {f"{image} {class_id}": (image, class_id) for image, class_id in plan.annotated()}
        for key in progress(list(numbers), f"checking {kind} annotations"):
            image, class_id = numbers[key]
            image_id = bank.image_ids[image]
            expected = annotation_codes(kind, rule, bank.layers(image).label_map(class_id), image_id, class_id)
            if not np.array_equal(bank.annotation(kind, image, class_id), expected):
                yield f"{image_id}: its {kind} for class {class_id} is not what rule and seed give"
