"""Looking at every image and mask of a data set: what will be scored, what to know, what is missing or wrong."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from fssbench.datasets.base import Dataset, Layers, layers
from fssbench.datasets.decode import decode_image, image_size
from fssbench.datasets.masks import void_of
from fssbench.datasets.own.dataset import Folder
from fssbench.datasets.reading import counted, some
from fssbench.errors import DataError
from fssbench.progress import Progress

FEWEST = 6  # images a class: five shots and a query
AREA = 2048  # px; the area filter of the default protocol
EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One cause, and where it was found."""

    problem: str  # of the first image that has it
    count: int = 1
    examples: tuple[str, ...] = ()  # images, at most three

    def line(self) -> str:
        """In words, one line."""
        if self.count < 2:
            return self.problem
        return f"{self.problem} [{counted(self.count, 'image')}: {_examples(self.examples, self.count)}]"


@dataclass
class Health:
    """What a data set holds, and what is wrong with it."""

    dataset: str
    pool: str = ""
    images: int = 0
    min_area: int = AREA  # px that a class must cover in an image
    enough_area: int = 0  # px; the largest filter that leaves each class six images, 0 if none does
    class_images: dict[str, int] = field(default_factory=dict)  # class -> images that show enough of it
    shown: dict[str, int] = field(default_factory=dict)  # class -> images with a pixel of it
    share: dict[str, float] = field(default_factory=dict)  # class -> part of the image that it covers, where it is
    notes: list[str] = field(default_factory=list)  # what to know; not wrong in itself
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class _Look(NamedTuple):
    """What one image told."""

    problems: list[str]
    areas: Mapping[int, int]  # class -> px
    void: int  # px
    pixels: int
    bytes_hash: str
    picture_hash: str
    soft: tuple[int, int]


def examine(name: str, opened: Callable[[], Dataset], progress: Progress, *, quick: bool = False) -> Health:
    """Open a data set and look at all of its images and masks.

    `quick` reads only the header of an image, which overlooks truncated ones and copies in another format. Nothing is
    raised for bad data; `PackageError` where this installation cannot read it.
    """
    health = Health(name)
    try:
        dataset = opened()
        ids = dataset.image_ids()
    except DataError as error:
        health.findings.append(Finding(str(error)))
        return health
    health.dataset = name if name == dataset.name else f"{dataset.name} ({name})"
    health.pool, health.images = dataset.pool, len(ids)
    health.min_area = AREA if dataset.min_area is None else dataset.min_area
    looks = {image_id: _look(dataset, image_id, quick) for image_id in progress(ids, f"looking at {name}")}
    _count(health, dataset, looks)
    health.findings += _grouped(looks)
    if isinstance(dataset, Folder):
        health.findings += _no_class(health, looks)
    health.notes += [
        *_split(health, dataset),
        *_filtered(health, dataset, looks),
        *_short(health, dataset),
        *_of_the_pixels(looks),
        *_same_pictures(looks),
    ]
    if isinstance(dataset, Folder):
        for what, which in dataset.remarks.items():
            health.notes.append(f"{what}: {len(which)} ({_examples(which, len(which))})" if which else what)
    return health


def _look(dataset: Dataset, image_id: str, quick: bool) -> _Look:
    """What is wrong with an image and its masks, and what it shows."""
    problems: list[str] = []
    found: Layers | None = None
    areas: dict[int, int] = {}
    void, soft, hashes = 0, (0, 0), ("", "")
    try:
        found = layers(dataset, image_id)
        areas = {c: px for c, px in found.areas.items() if c in dataset.class_names}
        void = sum(int((labels == void_of(labels)).sum()) for number, labels in found.maps.items() if not number)
        soft = dataset.softness(image_id) if isinstance(dataset, Folder) else soft
        foreign = sorted(str(c) for c in found.areas if c not in dataset.class_names)
        if foreign:
            problems.append(f"mask of {image_id}: expected class ids, 0 and 255, found the values {some(foreign)}")
    except DataError as error:
        problems.append(str(error))
    size = None
    try:
        size, hashes = _picture(dataset.image_bytes(image_id), f"image {image_id}", quick)
    except DataError as error:
        problems.append(str(error))
    if found is not None and size is not None and found.shape != size:
        problems.append(
            f"{image_id}: expected image and mask of one size, found {size[0]} x {size[1]} and "
            f"{found.shape[0]} x {found.shape[1]} (height x width)"
        )
    return _Look(problems, areas, void, found.shape[0] * found.shape[1] if found else 0, *hashes, soft)


def _picture(encoded: bytes, where: str, quick: bool) -> tuple[tuple[int, int], tuple[str, str]]:
    """H, W, and a hash of the file and of its pixels."""
    own = hashlib.sha256(encoded).hexdigest()
    if quick:
        return image_size(encoded, where, whole=False), (own, own)
    picture = decode_image(encoded, where)
    pixels = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    return (picture.height, picture.width), (own, pixels)


def _count(health: Health, dataset: Dataset, looks: Mapping[str, _Look]) -> None:
    least, enough = max(1, health.min_area), list[int]()
    for number, title in dataset.class_names.items():
        shown = [(look.areas[number], look.pixels) for look in looks.values() if number in look.areas]
        health.shown[title] = len(shown)
        health.class_images[title] = sum(area >= least for area, _ in shown)
        sixth = sorted((area for area, _ in shown), reverse=True)[FEWEST - 1 : FEWEST] or [0]
        enough.append(sixth[0])
        health.share[title] = sum(area / pixels for area, pixels in shown) / len(shown) if shown else 0.0
    health.enough_area = min(enough, default=0)


def _grouped(looks: Mapping[str, _Look]) -> list[Finding]:
    """One finding a cause: messages that differ in names and numbers only are one."""
    causes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for image_id, look in looks.items():
        for problem in look.problems:
            cause = re.sub(r"\d+|#[0-9a-f]{6}", "0", problem[problem.find("expected") :].replace(image_id, ""))
            causes[re.sub(r"0([, ]+0)*( and 0 more)?", "0", cause)].append((image_id, problem))
    return [
        Finding(found[0][1], len(found), tuple(image_id for image_id, _ in found[:EXAMPLES]))
        for found in causes.values()
    ]


def _no_class(health: Health, looks: Mapping[str, _Look]) -> list[Finding]:
    if any(health.shown.values()) or not looks or health.findings:
        return []
    void = sum(look.void for look in looks.values())
    hint = (
        f'{void} px are void. Are these masks of 0 and 255? Say format = "binary" in dataset.toml: 255 is the object.'
        if void
        else "all masks are empty. Do they hold the class values that [classes] names?"
    )
    return [Finding(f"expected objects, found none in any of {len(looks)} images: {hint}")]


def _split(health: Health, dataset: Dataset) -> list[str]:
    """Whether this is the published split, as far as names and numbers tell, where there is one to compare with."""
    if type(dataset).shortfall is Dataset.shortfall:
        return []
    split = f"{health.pool}{'' if dataset.split == 'default' else f', {dataset.split}'}"
    if missing := dataset.shortfall():
        return [
            f"not known to be the published split {split}: {missing}; results on it cannot be compared with published "
            "ones"
        ]
    return [
        f"the published split {split}: all of it, by names and numbers; `fssbench attach` of an index bank compares "
        "every mask and image"
    ]


def _filtered(health: Health, dataset: Dataset, looks: Mapping[str, _Look]) -> list[str]:
    """What the area filter leaves out, and the number that would keep all."""
    lost = {name: count - health.class_images[name] for name, count in health.shown.items()}
    parts = [f"{lost[name]} of {health.shown[name]} images of {name}" for name in lost if lost[name]]
    if not parts:
        return []
    smallest = min(px for look in looks.values() for px in look.areas.values())
    where = "min_area in dataset.toml, or --min-area" if isinstance(dataset, Folder) else "--min-area"
    return [
        f"the area filter of {health.min_area} px leaves out {some(parts, 6)}; {where} sets another: {smallest} would "
        "keep all"
    ]


def _short(health: Health, dataset: Dataset) -> list[str]:
    notes = []
    for fold in range(len(dataset.folds)):
        names = [dataset.class_names[c] for c in dataset.fold_classes(fold)]
        short = [f"{name} ({health.class_images[name]})" for name in names if health.class_images[name] < FEWEST]
        if short:
            notes.append(
                f"fold {fold}: too few images for 5 shots of {some(short)}; --skip-short-classes leaves them out, "
                "--shots asks for fewer"
            )
    return notes


def _of_the_pixels(looks: Mapping[str, _Look]) -> list[str]:
    notes = []
    empty = [image_id for image_id, look in looks.items() if not look.areas and not look.problems]
    if empty:
        notes.append(f"{counted(len(empty), 'image')} without an object: {_examples(empty, len(empty))}")
    void, pixels = sum(look.void for look in looks.values()), sum(look.pixels for look in looks.values())
    if void:
        notes.append(f"void, which is not scored: {void} px, {100 * void / pixels:.1f} % of all")
    soft = [image_id for image_id, look in looks.items() if any(look.soft)]
    if soft:
        cut_off, kept = (sum(look.soft[i] for look in looks.values()) for i in range(2))
        notes.append(
            f"soft masks, with values between 0 and 255, cut at half (or `threshold`): {len(soft)} "
            f"({_examples(soft, len(soft))}); every value above 0 would be {cut_off} px more, "
            f"{100 * cut_off / max(1, kept):.1f} % of the objects"
        )
    return notes


def _same_pictures(looks: Mapping[str, _Look]) -> list[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for image_id, look in looks.items():
        if look.picture_hash:
            groups[look.picture_hash].append(image_id)
    pairs = []
    for same in groups.values():
        if len(same) > 1:
            files = len({looks[image_id].bytes_hash for image_id in same})
            pairs.append(f"{' = '.join(same[:EXAMPLES])} (the same {'bytes' if files == 1 else 'pixels'})")
    if not pairs:
        return []
    return [
        f"one picture under several names, never support and query of one episode: {len(pairs)}: "
        f"{some(pairs, EXAMPLES)}"
    ]


def _examples(names: Sequence[str], count: int) -> str:
    counted = Counter(names)
    shown = [f"{name} ({n} times)" if n > 1 else name for name, n in list(counted.items())[:EXAMPLES]]
    rest = count - sum(list(counted.values())[:EXAMPLES])
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def sheet(dataset: Dataset, most: int = 8) -> Image.Image:
    """Images of a data set with their masks laid over, spread over those that show an object; classes below."""
    from fssbench.show import Panel, grid, overlay

    wanted: list[tuple[str, Layers]] = []
    ids = dataset.image_ids()
    spread = sorted(range(len(ids)), key=lambda i: (i * 0.6180339887) % 1)
    for image_id in (ids[i] for i in spread):
        found = layers(dataset, image_id)
        if any(c in dataset.class_names for c in found.areas):
            wanted.append((image_id, found))
        if len(wanted) == most:
            break
    places = {number: place for place, number in enumerate(dataset.class_names, start=1)}
    panels = []
    for image_id, found in sorted(wanted, key=lambda pair: ids.index(pair[0])):
        labels = found.label_map(0)
        drawn = np.zeros(labels.shape, np.uint8)
        for number, place in places.items():
            drawn[labels == number] = (place - 1) % 250 + 1
        if 0 in found.maps:
            drawn[labels == void_of(labels)] = 255
        picture = decode_image(dataset.image_bytes(image_id), image_id)
        names = ", ".join(dataset.class_names[c] for c in found.areas if c in dataset.class_names)
        panels.append(Panel(overlay(picture, drawn), f"{image_id}: {names}"[:60]))
    if not panels:
        raise DataError(f"{dataset.name}: expected images that show an object, found none to draw.")
    return grid(panels, 4, f"{dataset.name}: {len(ids)} images, {len(panels)} of them with their masks")
