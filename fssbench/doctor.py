"""Looking at every image and mask of a data set, and saying what is missing or wrong."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fssbench.datasets.base import VOID, Dataset, label_map
from fssbench.datasets.decode import decode_image
from fssbench.datasets.reading import some
from fssbench.errors import DataError
from fssbench.progress import Progress

# Images of the published lists, by data set and pool.
PUBLISHED: dict[tuple[str, str], int] = {
    ("pascal5i", "voc-val"): 1449,
    ("pascal5i", "trainaug"): 10582,
    ("pascal5i", "train"): 10582,
    ("coco20i", "val2014"): 40137,
    ("coco20i", "train2014"): 82081,
    ("coco20i", "val2017"): 4952,
    ("coco20i", "train2017"): 117266,
}

FEWEST = 6  # images a class: five shots and a query
_AREA = 2048  # px; the area filter of the default protocol


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    image_id: str  # empty: the data set as a whole
    problem: str


@dataclass
class Health:
    """What a data set holds, and what is wrong with it."""

    dataset: str
    pool: str = ""
    images: int = 0
    published_images: int | None = None  # of the complete list, where that is known
    class_images: dict[str, int] = field(default_factory=dict)  # class -> images that show enough of it
    notes: list[str] = field(default_factory=list)  # what to know; not wrong in itself
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def examine(name: str, opened: Callable[[], Dataset], progress: Progress, *, quick: bool = False) -> Health:
    """Open a data set and look at all of its images and masks.

    `quick` reads only the header of an image, which overlooks truncated ones. Nothing is raised for bad data.
    """
    health = Health(name)
    try:
        dataset = opened()
        ids = dataset.image_ids()
    except DataError as error:
        health.findings.append(Finding("", str(error)))
        return health
    health.pool, health.images = dataset.pool, len(ids)
    health.published_images = PUBLISHED.get((name, dataset.pool))
    counts: Counter[int] = Counter()
    for image_id in progress(ids, f"looking at {name}"):
        problems, shown = _examine_image(dataset, image_id, quick)
        health.findings += [Finding(image_id, problem) for problem in problems]
        counts.update(shown)
    health.class_images = {title: counts[number] for number, title in dataset.class_names.items()}
    health.notes += _notes(health, dataset, counts)
    return health


def _examine_image(dataset: Dataset, image_id: str, quick: bool) -> tuple[list[str], list[int]]:
    """What is wrong with an image and its mask, and the classes that it shows enough of."""
    problems: list[str] = []
    labels: NDArray[np.uint8] | None = None
    shown: list[int] = []
    try:
        mask = dataset.mask(image_id)
        labels = label_map(mask, f"mask of {image_id}")
        areas = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))
        foreign = sorted(set(areas) - {0, *dataset.class_names} - (set() if mask.class_id else {VOID}))
        if foreign:
            problems.append(f"mask of {image_id}: expected class ids, 0 and 255, found the values {_list(foreign)}")
        least = _AREA if dataset.min_area is None else dataset.min_area
        shown = [number for number in dataset.class_names if areas.get(number, 0) >= max(1, least)]
    except DataError as error:
        problems.append(str(error))
    try:
        width, height = _size(dataset.image_bytes(image_id), f"image {image_id}", quick)
    except DataError as error:
        return [*problems, str(error)], shown
    if labels is not None and labels.shape != (height, width):
        problems.append(
            f"{image_id}: expected image and mask of one size, found {height} x {width} and "
            f"{labels.shape[0]} x {labels.shape[1]} (height x width)"
        )
    return problems, shown


def _size(encoded: bytes, where: str, quick: bool) -> tuple[int, int]:
    if not quick:
        return decode_image(encoded, where).size
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: expected a JPEG or PNG, found {len(encoded)} bytes of something else.") from error


def _notes(health: Health, dataset: Dataset, counts: Mapping[int, int]) -> list[str]:
    notes = []
    if health.published_images is not None and health.images != health.published_images:
        notes.append(
            f"{health.images} images, where the complete list {health.pool} has {health.published_images}: results on "
            "this subset cannot be compared with published ones"
        )
    for fold in range(len(dataset.folds)):
        short = [f"{dataset.class_names[c]} ({counts[c]})" for c in dataset.fold_classes(fold) if counts[c] < FEWEST]
        if short:
            notes.append(
                f"fold {fold}: too few images for 5 shots of {some(short)}; --skip-short-classes leaves them out"
            )
    return notes


def _list(values: Sequence[int]) -> str:
    return some([str(value) for value in values])
