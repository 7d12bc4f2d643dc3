"""PACO-Part: parts of objects in COCO's photographs, each object cut out, in Matcher's and GF-SAM's four folds.

Reads PACO's own `PACO-Part/paco/paco_lvis_v1_val.json` and `..._train.json` (for its list of classes), and COCO 2017.
The authors' pickles are not read: a pickle runs what it holds. What they hold is made anew: of the part classes
that training images show, by ascending id, fold f has each fourth from the f-th on, and of those are tested which more
validation images show than there are shots. That the authors' order is by id is not published.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from fssbench.datasets.base import other_classes
from fssbench.datasets.coco_annotations import Annotation, CocoFile, Instances, load_instances
from fssbench.datasets.crops import Box, Crop, Crops, crops_of
from fssbench.datasets.json_stream import entries
from fssbench.datasets.lvis92i import SPLITS, coco2017, known_options
from fssbench.datasets.reading import first_folder
from fssbench.errors import DataError

VAL, TRAIN = "paco_lvis_v1_val.json", "paco_lvis_v1_train.json"
TRAINED = 448  # part classes that the training images show
TESTED = {"1-shot": (79, 82, 66, 76)}  # a fold, from the authors' logs; of 5 shots there is none
FOLDS = 4
_PLACES = ("", "PACO-Part/paco", "PACO-Part", "paco", "annotations")


class PacoPart(Crops):
    """The objects of PACO-LVIS's validation images; `split` "1-shot" or "5-shot" says which classes are tested."""

    name = "paco_part"

    def __init__(self, root: Path, *, pool: str = "default", split: str = "default") -> None:
        self.pool, self.split = known_options(self.name, pool, split)
        found = first_folder([root / place for place in _PLACES], [VAL, TRAIN])
        if found is None:
            raise DataError(
                f"no PACO at {root}: expected {root / 'PACO-Part' / 'paco'} with {VAL} and {TRAIN}. Name the right "
                "folder by --root, or run `fssbench download paco_part`."
            )
        self.photographs = coco2017(root, found)
        self._content = load_instances(found / VAL)
        self.class_names = {
            number: str(entry.get("name", number))
            for number, entry in sorted(self._content.categories.items())
            if entry.get("supercategory") == "PART"
        }
        self._trained = [c for c in _shown(found / TRAIN) if c in self.class_names]
        shown: dict[int, set[int]] = defaultdict(set)
        for image in self._content.images.values():
            for part in _parts(image):
                shown[part.category].add(image.number)
        tested = {c for c, images in shown.items() if len(images) > SPLITS[self.split][0]}
        each = len(self._trained) // FOLDS
        held = (self._trained[fold::FOLDS][:each] for fold in range(FOLDS))
        self.folds = tuple(tuple(c for c in classes if c in tested) for classes in held)

    @cached_property
    def _crops(self) -> dict[str, Crop]:
        return {
            image_id: crop
            for image in self._content.images.values()
            for image_id, crop in crops_of(image.file_name.rpartition(".")[0], image, _objects(image)).items()
        }

    def shortfall(self) -> str:
        trained = "" if len(self._trained) == TRAINED else f"{len(self._trained)} of {TRAINED} part classes in training"
        tested = TESTED.get(self.split)
        other = "" if tested is None else other_classes(self.folds, tested, f"PACO-Part {self.split}")
        return "; ".join(filter(None, (trained, other)))

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_content": CocoFile({}, {})}  # other processes have their crops


def _parts(image: Instances) -> Iterator[Annotation]:
    return (a for a in image.annotations if a.whole not in (0, a.number))


def _objects(image: Instances) -> Iterator[tuple[Box, Sequence[Annotation]]]:
    """The box of each object, its ends cut to whole numbers, and its parts."""
    parts: dict[int, list[Annotation]] = defaultdict(list)
    for part in _parts(image):
        parts[part.whole].append(part)
    for whole in image.annotations:
        if whole.number == whole.whole:
            x, y, width, height = whole.box
            yield Box(int(x), int(y), int(x + width), int(y + height)), parts[whole.number]


def _shown(path: Path) -> list[int]:
    """The categories that a file's annotations have, ascending; the file is large and nothing else of it is kept."""
    try:
        found = {int(entry["category_id"]) for _, entry in entries(path, ("annotations",), "PACO's annotations")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected annotations with category_id, found {error!r}. Copy it again.") from error
    return sorted(found)
