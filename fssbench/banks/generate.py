"""From a data set and a protocol to a bank."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.pictures import copies
from fssbench.banks.randomness import named_stream
from fssbench.banks.sampling import Episodes, Pool, Shape, draw
from fssbench.banks.scan import MaskFacts, pool_of, scan
from fssbench.banks.schema import ANNOTATION_KINDS
from fssbench.banks.workers import spread
from fssbench.banks.writer import Plan, Stored, check_free, write_bank
from fssbench.datasets.base import Dataset, Layers
from fssbench.datasets.decode import decode_mask, image_size
from fssbench.datasets.masks import Labels
from fssbench.datasets.reading import counted, encode_png, some
from fssbench.errors import BankError, DataError, ProtocolError, UsageError
from fssbench.names import wrong_image_id
from fssbench.progress import Progress, quiet
from fssbench.protocol import Protocol

_RULE = 1  # raise it when fssbench.banks.annotations changes what it draws
_LARGEST_SEED = 2**32 - 1  # of NumPy's legacy generator
_SAMPLE = 32  # images that are weighed before all are copied


@dataclass(frozen=True)
class Request:
    """What a bank shall hold."""

    protocol: Protocol
    shots: tuple[int, ...] = (5,)
    ways: int = 1
    folds: tuple[int, ...] | None = None  # None: all
    repeats: int = 1  # support sets for one query
    auxiliary: int = 0
    annotations: tuple[str, ...] = ()
    annotation_seed: int = 0
    skip_short: bool = False

    @property
    def draws(self) -> tuple[int, ...]:
        """The numbers of shots to draw: the largest serves the others where the protocol nests them."""
        return (max(self.shots),) if self.protocol.nested else tuple(sorted(set(self.shots)))


def generate(
    dataset: Dataset,
    request: Request,
    out: Path,
    *,
    index: bool = False,
    force: bool = False,
    progress: Progress = quiet,
    workers: int | None = 1,
) -> Plan:
    """Draw the episodes, write the bank, and say what is in it. The bank is the same by any number of `workers`,
    processes that read the data; None: as many as are worth it.

    Raises `DataError` for data that is missing or wrong, `ProtocolError` for a class with too few images, `UsageError`
    for a fold or annotation that does not exist, `BankError` if `out` exists and not `force`.
    """
    check_free(out, force)
    plan = make_plan(dataset, request, progress, workers=workers)
    write_plan(dataset, plan, out, index=index, force=force, progress=progress, workers=workers)
    return plan


def write_plan(
    dataset: Dataset,
    plan: Plan,
    out: Path,
    *,
    index: bool = False,
    force: bool = False,
    progress: Progress = quiet,
    workers: int | None = 1,
) -> None:
    """Write a bank from its plan and the data set's files."""
    parts = image_parts(plan)
    if not index:
        check_room(dataset, parts, out)
    what = "hashing images" if index else "copying images"
    work = partial(read_stored, index=index)
    stored = spread(work, dataset, parts, what, workers=workers, progress=progress, part=part_of)
    write_bank(out, plan, stored, index=index, force=force)


def make_plan(dataset: Dataset, request: Request, progress: Progress = quiet, *, workers: int | None = 1) -> Plan:
    """Read the masks and draw the episodes; nothing is written."""
    folds = _folds(dataset, request)
    protocol = request.protocol.but(pool=dataset.pool, split=dataset.split)
    _check(protocol, request)
    ids = list(dict.fromkeys(image_id for fold in folds for image_id in dataset.fold_image_ids(fold)))
    if problem := wrong_image_id(ids):
        raise DataError(f"{dataset.name}: expected names of images, found {problem}. Rename the file.")
    facts = scan(dataset, ids, progress, workers=workers)
    order = {image_id: number for number, image_id in enumerate(ids)}
    same = copies(dataset, facts)
    pools, skipped = {}, {}
    for fold in folds:
        pool = replace(pool_of(dataset, protocol, fold, facts, order), same=same)
        pools[fold], skipped[fold] = _supplied(pool, request, dataset.class_names, fold)
    folds = _with_classes(folds, pools, request)
    drawn = {
        (fold, shots): draw(protocol, pools[fold], fold, Shape(request.ways, shots, request.repeats, request.auxiliary))
        for fold in folds
        for shots in request.draws
    }
    used = sorted({ids[image] for episodes in drawn.values() for image in _images_of(episodes)})
    place = np.full(len(ids), -1, dtype=np.int64)
    place[[order[image_id] for image_id in used]] = np.arange(len(used))
    return Plan(
        dataset=dataset.name,
        pool=dataset.pool,
        protocol=protocol,
        class_names=dict(dataset.class_names),
        fold_classes={fold: pools[fold].classes for fold in folds},
        images={image_id: facts[image_id] for image_id in used},
        episodes={key: _renumbered(episodes, place) for key, episodes in drawn.items()},
        note="; ".join(filter(None, (dataset.shortfall(), _skip_note(skipped, dataset.class_names)))),
        annotations=dict.fromkeys(request.annotations, f"rule {_RULE} seed {request.annotation_seed}"),
    )


@dataclass(frozen=True)
class ImagePart:
    """What a plan says of one image."""

    image_id: str
    facts: MaskFacts
    sha256: str  # of the image file, empty where it is not known yet
    classes: tuple[int, ...]  # that it supports somewhere, and so has annotations of
    rules: Mapping[str, str]  # kind of annotation -> rule and seed


def image_parts(plan: Plan) -> list[ImagePart]:
    """The parts of a plan, in the order of its images."""
    classes: list[list[int]] = [[] for _ in plan.image_ids]
    for image, class_id in plan.annotated if plan.annotations else ():
        classes[image].append(class_id)
    known = plan.image_sha256
    return [
        ImagePart(image_id, plan.images[image_id], known.get(image_id, ""), tuple(classes[i]), plan.annotations)
        for i, image_id in enumerate(plan.image_ids)
    ]


def part_of(dataset: Dataset, parts: Sequence[ImagePart]) -> Dataset:
    """What another process needs of a data set for some images."""
    return dataset.part([part.image_id for part in parts])


def read_stored(dataset: Dataset, part: ImagePart, *, index: bool = False) -> Stored:
    """The bytes of an image and its masks, checked against the plan and each other, and its annotations drawn.

    An index needs no images: where they are absent their hashes are left out. Raises `DataError`.
    """
    if index:
        return Stored(None, _known_hash(dataset, part.image_id), ())
    image_id, facts, where = part.image_id, part.facts, f"{dataset.name}: mask of {part.image_id}"
    masks = sorted(dataset.masks(image_id), key=lambda mask: mask.class_id)
    found = Layers.of([(mask.class_id, decode_mask(mask, where)) for mask in masks], where)
    if found.hashes != facts.masks:
        raise DataError(
            f"another mask (label map {_short(facts.masks)} expected, {_short(found.hashes)} found). {where}: its "
            "content changed while the bank was being made. Start again."
        )
    image = dataset.image_bytes(image_id)
    check_image(image, facts, f"{dataset.name}: image of {image_id}")
    digest = hashlib.sha256(image).hexdigest()
    if part.sha256 not in ("", digest):
        raise DataError(
            f"another image file (SHA-256 {part.sha256[:12]}... expected, {digest[:12]}... found). {dataset.name}: "
            f"image of {image_id}."
        )
    annotations = {
        kind: [encode_png(annotation_codes(kind, rule, found.label_map(c), image_id, c)) for c in part.classes]
        for kind, rule in part.rules.items()
    }
    return Stored(image, digest, tuple(mask.encoded for mask in masks), annotations)


def check_room(dataset: Dataset, parts: Sequence[ImagePart], out: Path) -> None:
    """Raises `BankError` where the disk has no room for the bank's images and masks, as far as some of them tell."""
    sizes = []
    for part in parts[:: max(1, len(parts) // _SAMPLE)]:
        with contextlib.suppress(DataError):  # whoever copies it says what is wrong
            image, masks = dataset.image_bytes(part.image_id), dataset.masks(part.image_id)
            sizes.append(len(image) + sum(len(mask.encoded) for mask in masks))
    needed = sum(sizes) / max(1, len(sizes)) * len(parts)
    place = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise BankError(
            f"{out}: expected about {needed / 1e9:.2f} GB of free space for {len(parts)} images, found "
            f"{free / 1e9:.2f} GB. Make room, or name a file on a larger disk by --out."
        )


def check_image(encoded: bytes, facts: MaskFacts, where: str) -> None:
    """Raises `DataError` for an image that does not decode, or that has another size than its mask."""
    check_size(*image_size(encoded, where), facts, where)


def check_size(height: int, width: int, facts: MaskFacts, where: str) -> None:
    """Raises `DataError` for an image that has another size than its mask."""
    if (height, width) != (facts.height, facts.width):
        raise DataError(
            f"{where}: expected image and mask of one size, found an image of {height} x {width} and a mask of "
            f"{facts.height} x {facts.width} (height x width). One of the two files is another image's."
        )


def annotation_codes(kind: str, rule: str, labels: Labels, image_id: str, class_id: int) -> NDArray[np.uint8]:
    """H x W codes of an annotation. A function of rule, label map, image name and class, whatever the bank; that of a
    corrupted copy is its image's.
    """
    from fssbench.banks.annotations import annotate
    from fssbench.banks.corruptions import clean_id

    seed = int(rule.rpartition(" ")[2])
    return annotate(kind, labels, class_id, named_stream(seed, f"{kind} {clean_id(image_id)} {class_id}"))


def _known_hash(dataset: Dataset, image_id: str) -> str:
    try:
        return hashlib.sha256(dataset.image_bytes(image_id)).hexdigest()
    except DataError:
        return ""  # masks alone are enough for an index


def _short(masks: tuple[tuple[int, str], ...]) -> str:
    return ", ".join(f"{f'of class {class_id}: ' if class_id else ''}{digest[:12]}..." for class_id, digest in masks)


def _folds(dataset: Dataset, request: Request) -> tuple[int, ...]:
    folds = tuple(range(len(dataset.folds))) if request.folds is None else request.folds
    for fold in folds:
        if not 0 <= fold < len(dataset.folds):
            raise UsageError(
                f"{dataset.name}: expected folds 0 to {len(dataset.folds) - 1}, found fold {fold}. Change --folds."
            )
    return folds


def _check(protocol: Protocol, request: Request) -> None:
    unknown = [kind for kind in request.annotations if kind not in ANNOTATION_KINDS]
    if unknown:
        known = (
            "box, scribble, point, or a worse mask by level 1 to 5: eroded-N, dilated-N, shifted-N, ragged-N, boxed-N"
        )
        raise UsageError(f"expected annotations out of {known}, found {unknown[0]!r}.")
    if min(request.shots, default=0) < 1 or request.ways < 1 or request.repeats < 1 or request.auxiliary < 0:
        raise UsageError("expected at least 1 shot, 1 way and 1 support set for each query.")
    if protocol.replays and max(protocol.seeds) > _LARGEST_SEED:
        raise UsageError(
            f"protocol {protocol.name}: expected seeds up to {_LARGEST_SEED}, which is what its authors' generator "
            f"takes, found {max(protocol.seeds)}. Change --seed."
        )
    if protocol.replays and (request.ways, request.repeats, request.auxiliary) != (1, 1, 0):
        raise ProtocolError(
            f"protocol {protocol.name} follows the authors' own random stream, which knows 1 way, one support set for "
            "each query and no auxiliary images. Leave those options out, or use the protocol fssbench."
        )


def _supplied(pool: Pool, request: Request, names: Mapping[int, str], fold: int) -> tuple[Pool, tuple[int, ...]]:
    """The pool without its short classes, and those. Raises `ProtocolError` naming them unless they may be skipped."""
    needed = max(request.shots) + request.auxiliary + 1
    queries = pool.queries()
    pictures = {c: len({pool.copies(image) for image in pool.support[c]}) for c in pool.classes}
    short = {c: count for c, count in pictures.items() if count < needed or not queries[c]}
    if short and not request.skip_short:
        found = some([f"{names[c]} (class {c}) has {count}" for c, count in short.items()])
        raise ProtocolError(
            f"fold {fold}: expected at least {needed} images a class ({max(request.shots)} supports, the query"
            f"{f', {request.auxiliary} auxiliary' if request.auxiliary else ''}), but {found}. "
            "Add images, ask for fewer --shots, or leave such classes out by --skip-short-classes."
        )
    kept = Pool(
        [(image, c) for image, c in pool.pairs if c not in short],
        {c: images for c, images in pool.support.items() if c not in short},
        pool.same,
    )
    return kept, tuple(short)


def _with_classes(folds: Sequence[int], pools: Mapping[int, Pool], request: Request) -> tuple[int, ...]:
    """The folds that kept enough classes; those that kept none are left out if short classes are.

    Raises `ProtocolError` for others, and if none is left.
    """
    few = {fold: len(pools[fold].classes) for fold in folds if len(pools[fold].classes) < request.ways}
    if few and (any(few.values()) or len(few) == len(folds)):
        fold, count = next((pair for pair in few.items() if pair[1]), next(iter(few.items())))
        fewer = "fewer --ways, " if request.ways > 1 else ""
        raise ProtocolError(
            f"fold {fold}: expected at least {counted(request.ways, 'class', 'classes')} with "
            f"{max(request.shots) + request.auxiliary + 1} images each, found {count}. Ask for {fewer}fewer --shots or "
            "a smaller --min-area, or add images."
        )
    return tuple(fold for fold in folds if fold not in few)


def _skip_note(skipped: Mapping[int, Sequence[int]], names: Mapping[int, str]) -> str:
    lines = [f"fold {fold}: {', '.join(names[c] for c in classes)}" for fold, classes in skipped.items() if classes]
    return f"classes skipped for want of images: {'; '.join(lines)}" if lines else ""


def _images_of(episodes: Episodes) -> set[int]:
    columns = [episodes.query, episodes.support, episodes.auxiliary]
    return {int(image) for column in columns if column is not None for image in np.unique(column)}


def _renumbered(episodes: Episodes, place: NDArray[np.int64]) -> Episodes:
    auxiliary = None if episodes.auxiliary is None else place[episodes.auxiliary]
    return replace(episodes, query=place[episodes.query], support=place[episodes.support], auxiliary=auxiliary)
