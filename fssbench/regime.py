"""What a checkpoint was trained and selected on, and whether the classes it is tested on are new to it.

Torch-free: cards, runs, the audit and reports share these facts and one rule, `exposure`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fssbench.datasets.reading import some
from fssbench.datasets.registry import dataset_names, find_dataset
from fssbench.errors import UsageError

# The same things under other names, PASCAL's and COCO's: folded name -> the one that is compared.
_SYNONYMS = {
    "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor", "monitor": "tvmonitor",
    "television": "tvmonitor",
}  # fmt: skip


class Regime(BaseModel):
    """The facts of a training; None where they are not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["fssbench", "authors", "unknown"] = "unknown"  # who trained it
    dataset: str | None = None
    fold: int | None = None  # the fold whose classes it should not have seen; None: trained for no fold
    classes: dict[int, str] | None = None  # id -> name of the classes trained on
    novel_images: Literal["dropped", "masked", "kept"] | None = None  # images that show other classes of the data set
    image_list: str | None = None
    images: int | None = None  # how many
    images_sha256: str | None = None  # `list_digest` of their ids
    recipe: str | None = None
    steps: int | None = None
    batch: int | None = None  # episodes an optimiser step
    ways: int | None = None
    shots: int | None = None
    seed: int | None = None
    selected_on: Literal["base", "novel", "nothing"] | None = None  # classes of the episodes that chose it
    note: str = ""

    @property
    def selection(self) -> str:
        """What the checkpoint was chosen on, in words."""
        words = {
            "base": "validation episodes of base classes",
            "novel": "the tested classes",
            "nothing": "nothing (the last step)",
        }
        return words.get(self.selected_on or "", "not stated")


@dataclass(frozen=True)
class Exposure:
    """Whether a training had seen the tested classes: which of them, and how one knows."""

    state: Literal["clean", "contaminated", "unknown"]
    reason: str
    classes: tuple[str, ...] = ()  # tested classes that were trained on


def exposure(regime: Regime, dataset: str, classes: Mapping[int, str], fold: int) -> Exposure:
    """Judge a training by the classes (id -> name) of a fold of `dataset` that it is tested on.

    Classes are compared by name, so that a training on another data set is judged as well; where a card names none,
    folds of one data set are: a training for one fold has seen the classes of all others.

    >>> regime = Regime(dataset="pascal5i", classes={5: "bottle", 7: "car"})
    >>> exposure(regime, "coco20i", {3: "car", 5: "airplane"}, 0).classes
    ('car',)
    """
    if regime.classes is not None:
        seen = {folded(name) for name in regime.classes.values()}
        common = tuple(name for name in classes.values() if folded(name) in seen)
        if common:
            return Exposure("contaminated", f"trained on {some(common)} ({_training(regime)})", common)
        return Exposure("clean", f"none of the tested classes is among the {len(seen)} trained on")
    if regime.fold is not None and regime.dataset in (dataset, None) and regime.fold != fold:
        tested = tuple(classes.values())
        return Exposure(
            "contaminated",
            f"trained for fold {regime.fold}, hence on the classes of fold {fold}: {some(tested)}",
            tested,
        )
    if regime.dataset is None:
        return Exposure("unknown", "its card does not say on which data set it was trained")
    if regime.dataset != dataset:
        return Exposure("unknown", f"trained on {regime.dataset}; its card does not name the classes")
    if regime.fold is None:
        return Exposure("unknown", f"trained on {dataset}; its card names neither a fold nor the classes")
    return Exposure("clean", f"trained for fold {fold} of {dataset}")


def folded(name: str) -> str:
    """A class name as it is compared: without case, blanks, hyphens and underscores, synonyms of VOC and COCO made one.

    >>> folded("Dining Table") == folded("diningtable"), folded("airplane") == folded("aeroplane")
    (True, True)
    """
    plain = "".join(c for c in name.casefold() if c not in " _-")
    return _SYNONYMS.get(plain, plain)


def list_digest(ids: Iterable[str]) -> str:
    """SHA-256 over image ids, one a line, sorted: equal for equal sets of images."""
    return hashlib.sha256("".join(f"{image_id}\n" for image_id in sorted(ids)).encode()).hexdigest()


def base_classes(dataset: str, fold: int) -> dict[int, str] | None:
    """The classes that a fold leaves for training, of a data set whose folds need no files to be known."""
    if dataset not in dataset_names():
        return None
    cls = find_dataset(dataset)
    names, folds = getattr(cls, "class_names", None), getattr(cls, "folds", None)
    if names is None or folds is None or fold >= len(folds):
        return None
    return {number: name for number, name in names.items() if number not in folds[fold]}


def authors_regime(
    dataset: str | None,
    fold: int,
    image_list: str | None = None,
    novel_images: str | None = None,
    selected_on: str | None = None,
    note: str = "",
) -> Regime:
    """What is told about a checkpoint of a method's authors. Raises `UsageError` for a word that has no meaning."""
    facts = {
        "source": "authors", "dataset": dataset, "fold": fold, "image_list": image_list, "note": note,
        "classes": base_classes(dataset, fold) if dataset else None,
        "novel_images": novel_images, "selected_on": selected_on,
    }  # fmt: skip
    try:
        return Regime.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"{option}: {first['msg']}, found {first['input']!r}") from None


def _training(regime: Regime) -> str:
    where = regime.dataset or "an unnamed data set"
    return where if regime.fold is None else f"{where}, for fold {regime.fold}"
