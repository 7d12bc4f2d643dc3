"""A data set as a fold leaves it for training: its base classes, on its training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fssbench.banks.pictures import copies
from fssbench.banks.sampling import Pool
from fssbench.banks.scan import MaskFacts, scan
from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.registry import open_dataset
from fssbench.errors import DataError, UsageError
from fssbench.progress import Progress, quiet
from fssbench.regime import Regime, list_digest
from fssbench.training.recipe import Stage

HELD_BACK = 10  # every tenth training image is for validation


class BaseClasses(Dataset):
    """Some images of a data set, with episodes of the classes that a fold leaves for training."""

    def __init__(self, whole: Dataset, fold: int, classes: tuple[int, ...], ids: Sequence[str]) -> None:
        self.name, self.pool, self.split = whole.name, whole.pool, whole.split
        self.class_names, self.min_area = whole.class_names, whole.min_area
        self.folds = tuple(classes if number == fold else () for number in range(fold + 1))
        self._whole, self._ids = whole, tuple(ids)

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return self._whole.image_bytes(image_id)

    def mask(self, image_id: str) -> Mask:
        return self._whole.mask(image_id)


@dataclass(frozen=True)
class TrainingData:
    """What a stage draws its episodes from, and what is held back to choose a checkpoint on."""

    dataset: Dataset
    fold: int
    classes: tuple[int, ...]
    ids: tuple[str, ...]  # images are numbered by this list
    pool: Pool
    facts: dict[str, MaskFacts]
    validation: BaseClasses
    novel_images: str

    def regime(self) -> Regime:
        """The facts that the data set knows; the loop adds its own."""
        return Regime(
            source="fssbench",
            dataset=self.dataset.name,
            fold=self.fold,
            classes={c: self.dataset.class_names[c] for c in self.classes},
            novel_images="dropped" if self.novel_images == "dropped" else "kept",
            image_list=self.dataset.pool,
            images=len(self.ids),
            images_sha256=list_digest(self.ids),
        )


def open_training(name: str, root: Path | None, fold: int, lists: str | None = None) -> tuple[Dataset, tuple[int, ...]]:
    """A data set's training images, and the classes that a fold leaves for training.

    The list is `lists`, else the one named "train", else the default. Raises `UsageError` where nothing is left.
    """
    try:
        dataset = open_dataset(name, root, pool=lists or "train")
    except UsageError:
        if lists is not None:
            raise
        dataset = open_dataset(name, root)
    if not 0 <= fold < len(dataset.folds):
        raise UsageError(f"{name}: expected folds 0 to {len(dataset.folds) - 1}, found fold {fold}. Change --folds.")
    own, held_out = dataset.fold_classes(fold), set(dataset.folds[fold])
    if held_out.isdisjoint(own):
        return dataset, tuple(own)
    base = tuple(c for c in dataset.class_names if c not in held_out)
    if base:
        return dataset, base
    tested = open_dataset(name, root)
    if set(tested.class_names.values()).isdisjoint(dataset.class_names.values()):
        return dataset, tuple(dataset.class_names)  # FSS-1000: lists of different classes
    raise UsageError(
        f"{name}: fold {fold} holds out all {len(held_out)} classes and leaves none to train on. Write [folds] into "
        "dataset.toml, or test on a data set of other classes."
    )


def training_data(
    dataset: Dataset,
    fold: int,
    classes: tuple[int, ...],
    stage: Stage,
    progress: Progress = quiet,
    *,
    hold_back: bool = True,
) -> TrainingData:
    """The images and pairs that a stage trains on; one in `HELD_BACK` is kept for validation if so asked.

    Raises `DataError` where classes are left with too few.
    """
    whole = list(dataset.fold_image_ids(fold))
    facts = scan(dataset, whole, progress)
    novel = set(dataset.class_names) - set(classes)

    def wanted(image_id: str) -> bool:
        shown = set(facts[image_id].areas)
        if stage.novel_images == "dropped" and shown & novel:
            return False
        return not stage.one_class or len(shown) == 1

    kept = [image_id for image_id in whole if wanted(image_id)]
    held = kept[HELD_BACK - 1 :: HELD_BACK] if hold_back else []
    back = set(held)
    ids = [image_id for image_id in kept if image_id not in back]
    least = max(1, stage.min_area if stage.min_area is not None else (dataset.min_area or 2048))
    pairs = [(n, c) for n, image_id in enumerate(ids) for c in classes if facts[image_id].areas.get(c, 0) >= least]
    support = {c: [image for image, other in pairs if other == c] for c in classes}
    needed = stage.shots + stage.auxiliary + stage.queries
    same = copies(dataset, {image_id: facts[image_id] for image_id in ids})
    pictures = {c: len({same.get(image, image) for image in images}) for c, images in support.items()}
    short = {dataset.class_names[c]: count for c, count in pictures.items() if count < needed}
    if len(short) == len(support):
        raise DataError(
            f"{dataset.name}, fold {fold}: expected classes with at least {needed} training images, found none in "
            f"the list {dataset.pool!r} ({len(whole)} images, of which {len(kept)} may be used). Add images."
        )
    enough = {c: images for c, images in support.items() if pictures[c] >= needed}
    pool = Pool([pair for pair in pairs if pair[1] in enough], enough, same)
    validation = BaseClasses(dataset, fold, tuple(enough), held)
    return TrainingData(dataset, fold, classes, tuple(ids), pool, facts, validation, stage.novel_images)


def readable(data: TrainingData) -> Callable[[int], str]:
    """What messages call an image."""
    return lambda image: f"image {data.ids[image]} of {data.dataset.name}"


def shown_classes(data: TrainingData, image: int) -> tuple[int, ...]:
    """The base classes that an image shows."""
    return tuple(c for c in np.sort(list(data.facts[data.ids[image]].areas)).tolist() if c in data.classes)
