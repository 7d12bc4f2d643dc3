"""Checking everything in a bank that can be checked."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import Bank
from fssbench.banks.fingerprint import image_fingerprint
from fssbench.banks.generate import ImagePart, annotation_codes, check_size, image_parts
from fssbench.banks.pictures import pixel_hash
from fssbench.banks.sampling import Episodes
from fssbench.banks.seal import check_body, read_seal
from fssbench.banks.workers import spread
from fssbench.datasets.decode import decode_image
from fssbench.errors import BankError, FssbenchError
from fssbench.progress import Progress, quiet
from fssbench.protocol import Protocol


def problems(bank: Bank, progress: Progress = quiet, *, workers: int | None = 1) -> Iterator[str]:
    """What is wrong with an opened bank, one line each; nothing if all is well. `workers` as for `generate`."""
    try:
        check_body(bank.path, read_seal(bank.path))
        plan = plan_of(bank)
    except BankError as error:
        yield str(error)
        return
    if plan.fingerprint != bank.fingerprint:
        yield f"fingerprint: {bank.fingerprint} stored, {plan.fingerprint} computed from the content"
    pictures = [bank.image_sha256(i) for i in range(len(bank.image_ids))]
    files = image_fingerprint(bank.fingerprint, pictures)
    if files != bank.image_fingerprint:
        yield f"image fingerprint: {bank.image_fingerprint or 'none'} stored, {files or 'none'} computed"
    areas: dict[int, Mapping[int, int]] = {}
    if bank.has_images:
        looks = spread(_look, bank, image_parts(plan), "checking images", workers=workers, progress=progress)
        for i, (shown, pixels, found) in enumerate(looks):
            if shown is not None:
                areas[i] = shown
            pictures[i] = pixels or pictures[i]
            yield from found
    for (fold, shots), episodes in plan.episodes.items():
        found = [
            *_episode_problems(bank.protocol, episodes),
            *_copies(bank, episodes, pictures),
            *_unseen(bank, episodes, areas),
        ]
        yield from (f"fold {fold}, {shots} shots: {line}" for line in found)


def _look(bank: Bank, part: ImagePart) -> tuple[Mapping[int, int] | None, str, list[str]]:
    """Class -> px of an image, and a hash of its pixels, if it is whole; what is wrong with it and its annotations."""
    image_id, i = part.image_id, bisect_left(bank.image_ids, part.image_id)
    shown, pixels, where = None, "", f"image of {part.image_id}"
    try:
        layers = bank.masks.layers(i)
        shown = layers.areas
        picture = decode_image(bank.image_bytes(i), where)
        check_size(picture.height, picture.width, part.facts, where)
        pixels = pixel_hash(picture)
        wrong = [
            f"{image_id}: its {kind} for class {class_id} is not what rule and seed give"
            for kind, rule in part.rules.items()
            for class_id in part.classes
            if not np.array_equal(
                bank.masks.annotation(kind, i, class_id),
                annotation_codes(kind, rule, layers.label_map(class_id), image_id, class_id),
            )
        ]
    except FssbenchError as error:
        return shown, pixels, [str(error)]
    return shown, pixels, wrong


def _episode_problems(protocol: Protocol, episodes: Episodes) -> Iterator[str]:
    """In what the rows alone are not what the protocol says."""
    flat = episodes.support.reshape(len(episodes), -1)
    if (flat == episodes.query[:, None]).any():
        yield "a query among its supports"
    repeated = sum(len(set(row)) < len(row) for row in flat.tolist())
    if repeated and protocol.support_draw == "distinct":
        yield f"{repeated} episodes with one support twice"
    doubled = sum(len(set(row)) < len(row) for row in episodes.classes.tolist())
    if doubled:
        yield f"{doubled} episodes with one class in two ways"
    wanted, groups = protocol.episodes * len(protocol.seeds), Counter(episodes.group.tolist())
    pairs = set(zip(episodes.query.tolist(), episodes.classes[:, 0].tolist(), strict=True))
    if protocol.one_pass and len(pairs) == len(groups):
        wanted = min(wanted, len(groups))
    if len(groups) != wanted or len(set(groups.values())) > 1:
        yield f"expected {wanted} queries, each with as many draws of supports, found {len(groups)} queries"
    for run in range(len(protocol.seeds)):
        of_run = episodes.run[:] == run
        drawn = Counter(episodes.classes[of_run, 0].tolist()).values()
        balanced = protocol.class_draw == "balanced" and not protocol.negatives
        if balanced and episodes.classes.shape[1] == 1 and drawn:
            spread = max(drawn) - min(drawn)
            if spread > max(groups.values()):
                yield f"run {run}: the protocol draws every class equally often, found {min(drawn)} to {max(drawn)}"


def _copies(bank: Bank, episodes: Episodes, pictures: Sequence[str]) -> Iterator[str]:
    """Queries that are among their supports under another name. Authors' streams, which are replayed, knew of none."""
    first: dict[str, int] = {}
    same = np.array([first.setdefault(picture or str(i), i) for i, picture in enumerate(pictures)])
    support, query = episodes.support.reshape(len(episodes), -1), episodes.query[:, None]
    met = (same[support] == same[query]) & (support != query)
    if met.any() and not bank.protocol.replays:
        episode, place = np.argwhere(met)[0].tolist()
        names = bank.image_ids[query[episode, 0]], bank.image_ids[support[episode, place]]
        yield f"{int(met.any(axis=1).sum())} episodes with one picture as query and support: {' is '.join(names)}"


def _unseen(bank: Bank, episodes: Episodes, areas: Mapping[int, Mapping[int, int]]) -> Iterator[str]:
    """Supports and queries that do not show their class, or less of it than the area filter asks for."""
    protocol = bank.protocol
    least = max(1, protocol.min_area if protocol.pair_filter == "area" else 1)
    of_query = least if protocol.filter_query else 1
    supports, queries = set(), set()
    for classes, support, query in zip(
        episodes.classes.tolist(), episodes.support, episodes.query.tolist(), strict=True
    ):
        for class_id, images in zip(classes, support.tolist(), strict=True):
            supports |= {(i, class_id) for i in images if i in areas and areas[i].get(class_id, 0) < least}
        if (
            not protocol.negatives
            and query in areas
            and max(areas[query].get(class_id, 0) for class_id in classes) < of_query
        ):
            queries.add((query, classes[0]))
    for what, wrong, wanted in (("supports", supports, least), ("queries", queries, of_query)):
        if wrong:
            image, class_id = min(wrong)
            yield (
                f"{len(wrong)} {what} with less than {wanted} px of their class, such as {bank.image_ids[image]} "
                f"with {areas[image].get(class_id, 0)} px of class {class_id}"
            )
