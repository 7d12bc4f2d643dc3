"""What every data set has to fulfil, whoever wrote it.

Each check takes a `Subject` and returns nothing, or raises `DataError` saying what was expected and what was found.
`fssbench conformance NAME --root DATA` runs them all; from Python:

    from fssbench.dataset_conformance import CHECKS, Subject
    for check in CHECKS.values():
        check(Subject(MyDataset, Path("data")))
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.datasets.base import Dataset, layers
from fssbench.datasets.decode import image_size
from fssbench.datasets.masks import LARGEST_CLASS, void_of
from fssbench.datasets.reading import some
from fssbench.errors import DataError, FssbenchError, ProtocolError, UsageError
from fssbench.names import name_problem, wrong_image_id
from fssbench.protocols import FSSBENCH

_SAMPLE = 12  # images that are read, from all over the list
_ABSENT = "no such image/of this data set"


@dataclass(frozen=True)
class Subject:
    """A data set's class, and data for it: a small tree in the real layout is enough."""

    cls: type[Dataset]
    root: Path
    pool: str | None = None

    def open(self) -> Dataset:
        """The data set, opened anew."""
        return self._open(self.root)

    def _open(self, root: Path, **options: Any) -> Dataset:
        pool = {} if self.pool is None else {"pool": self.pool}
        return self.cls(root, **{**pool, **options})  # type: ignore[call-arg]

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, opened once."""
        return self.open()

    @cached_property
    def sample(self) -> list[str]:
        """Some of its images."""
        ids = list(self.dataset.image_ids())
        return ids[:: max(1, len(ids) // _SAMPLE)][:_SAMPLE]


def check_names(subject: Subject) -> None:
    """Its name may stand in a path; its classes have names and whole numbers from 1 on."""
    data = subject.dataset
    if problem := name_problem(data.name):
        raise DataError(f"name: {problem}")
    wrong = [number for number in data.class_names if type(number) is not int or not 1 <= number <= LARGEST_CLASS]
    if wrong or not data.class_names:
        raise DataError(f"class_names: expected class ids from 1 to {LARGEST_CLASS}, found {wrong[:1] or 'none'}")
    unnamed = [name for name in data.class_names.values() if not isinstance(name, str) or not name.isprintable()]
    if unnamed or "" in data.class_names.values() or len(set(data.class_names.values())) < len(data.class_names):
        raise DataError(f"class_names: expected a name for each class, on one line and none twice, found {unnamed[:1]}")


def check_folds(subject: Subject) -> None:
    """No class is in two folds, and every fold, class and image that it speaks of is its own."""
    data = subject.dataset
    held_out = [c for fold in data.folds for c in fold]
    if not held_out or len(set(held_out)) < len(held_out) or not set(held_out) <= set(data.class_names):
        raise DataError(f"folds: expected classes of class_names, each in one fold at most, found {held_out[:40]}")
    ids = set(data.image_ids())
    for fold in range(len(data.folds)):
        classes, images, pairs = set(data.fold_classes(fold)), data.fold_image_ids(fold), data.pairs(fold) or ()
        if not classes or not classes <= set(data.class_names):
            raise DataError(f"fold_classes({fold}): expected classes of class_names, found {sorted(classes)[:40]}")
        _expect_subset(images, ids, f"fold_image_ids({fold})")
        _expect_subset([image_id for image_id, _ in pairs], set(images), f"pairs({fold})")
        if not {class_id for _, class_id in pairs} <= classes:
            raise DataError(f"pairs({fold}): expected classes of fold_classes({fold}), found others")


def _expect_subset(images: Sequence[str], known: set[str], what: str) -> None:
    foreign = [image_id for image_id in images if image_id not in known]
    if foreign:
        raise DataError(f"{what}: expected images that the data set has, found {some(foreign)}")


def check_images(subject: Subject) -> None:
    """Images have names that may stand in tables, none twice, and come in the same order every time."""
    ids = list(subject.dataset.image_ids())
    if problem := wrong_image_id(ids):
        raise DataError(f"image_ids: {problem}")
    if not ids or len(set(ids)) < len(ids):
        raise DataError(f"image_ids: expected images, none twice, found {len(ids)} of which {len(set(ids))} differ")
    if list(subject.open().image_ids()) != ids:
        raise DataError("image_ids: expected the same order whenever it is opened, found another one")


def check_masks(subject: Subject) -> None:
    """Images and masks decode, are of one size, show nothing but its classes, and are the same bytes every time."""
    data, again = subject.dataset, subject.open()
    for image_id in subject.sample:
        found = layers(data, image_id)
        image = data.image_bytes(image_id)
        size = image_size(image, f"image {image_id}")
        if size != found.shape:
            raise DataError(f"{image_id}: expected image and mask of one size, found {size} and {found.shape}")
        foreign = set(found.areas) - set(data.class_names)
        if foreign:
            void = {void_of(labels) for labels in found.maps.values()}
            raise DataError(f"{image_id}: expected class ids, 0 and {void} in the mask, found {sorted(foreign)[:20]}")
        if again.image_bytes(image_id) != image or layers(again, image_id).hashes != found.hashes:
            raise DataError(f"{image_id}: expected the same image and mask every time, found others")


def check_absent_image(subject: Subject) -> None:
    """An image that is not there is one message."""
    for what in (subject.dataset.image_bytes, subject.dataset.masks):
        _expect_error(lambda what=what: what(_ABSENT), (DataError,), f"{what.__name__} of an image that is not there")  # type: ignore[misc]


def check_absent_data(subject: Subject) -> None:
    """An empty folder, and a list of images that nobody knows, are one message each."""
    with tempfile.TemporaryDirectory() as empty:

        def read() -> None:
            subject._open(Path(empty)).image_bytes(subject.sample[0])

        if not _reads(read):
            _expect_error(read, (DataError,), "an empty folder as its root")
    _expect_error(lambda: subject._open(subject.root, pool="no such list"), (UsageError, DataError), "an unknown pool")


def _reads(read: Callable[[], None]) -> bool:
    """Whether it needs no files, like a rendered data set."""
    try:
        read()
    except Exception:  # noqa: BLE001  which one it is, is looked at next
        return False
    return True


def _expect_error(action: Callable[[], object], kinds: tuple[type[FssbenchError], ...], what: str) -> None:
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        action()
    except kinds:
        return
    except Exception as error:
        raise DataError(f"{what}: expected a {names}, found {type(error).__name__}: {error}") from error
    raise DataError(f"{what}: expected a {names}, found nothing wrong")


def check_other_processes(subject: Subject) -> None:
    """It travels to other processes, whole and in parts, before and after it was used."""
    for data in (subject.open(), subject.dataset):
        part = data.part(subject.sample[:2])
        try:
            travelled: Dataset = pickle.loads(pickle.dumps(part))
        except Exception as error:
            raise DataError(
                f"expected a data set that pickle can carry, found {type(error).__name__}: {error}"
            ) from error
        for image_id in subject.sample[:2]:
            same = travelled.image_bytes(image_id) == data.image_bytes(image_id)
            if not same or layers(travelled, image_id).hashes != layers(data, image_id).hashes:
                raise DataError(f"{image_id}: expected the same image and mask in another process, found others")


def check_bank(subject: Subject) -> None:
    """A small bank can be made of it, by one process and by two with the same bytes, in which nothing is wrong."""
    protocol = FSSBENCH.but(episodes=len(subject.dataset.class_names), min_area=1)
    request = Request(protocol, shots=(1,), skip_short=True)
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one.h5", Path(folder) / "two.h5"
        try:
            generate(subject.open(), request, one)
        except ProtocolError as error:
            raise DataError(f"expected two images of some class in every fold, found fewer: {error}") from error
        generate(subject.open(), request, two, workers=2)
        if one.read_bytes() != two.read_bytes():
            raise DataError("expected the same bank by one process and by two, found different ones")
        with open_bank(one) as bank:
            for problem in problems(bank):
                raise DataError(f"expected a bank in which nothing is wrong, found: {problem}")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "names": check_names,
    "folds": check_folds,
    "images": check_images,
    "masks": check_masks,
    "absent_image": check_absent_image,
    "absent_data": check_absent_data,
    "other_processes": check_other_processes,
    "bank": check_bank,
}


def failure(check: Callable[[Subject], None], subject: Subject) -> str | None:
    """Why a data set fails a check, in a line; None if it passes. Whatever it raises is a failure."""
    try:
        check(subject)
    except FssbenchError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  it is somebody else's code
        return f"{type(error).__name__}: {error}"
    return None
