"""What annotation files name: pictures in a folder, looked for whatever system wrote the names; and damage, told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fssbench.datasets.coco_annotations import LARGEST
from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found, Item
from fssbench.datasets.own.patterns import PICTURES, Groups, plain
from fssbench.datasets.own.shapes import Object
from fssbench.datasets.reading import files_below, read_text
from fssbench.errors import DataError


class Listing:
    """Collects the images of annotation files that hold many."""

    def __init__(self, config: OwnConfig) -> None:
        self._config, self._found, self._labels = config, Found(), dict[str, None]()
        self._absent: list[Path] = []
        self._pictures: dict[Path, dict[str, Path]] = {}  # folder -> what is in it, by comparable name

    def label(self, names: Iterable[str]) -> None:
        """Classes as a file names them, in its order."""
        self._labels.update(dict.fromkeys(names))

    def add(
        self, file: Path, groups: Groups, name: str, objects: Sequence[Object], size: tuple[int, int] | None
    ) -> None:
        """An image by the name and H, W that `file` gives it. Raises `DataError` for one that is there twice."""
        if size is not None and (min(size) < 1 or size[0] * size[1] > LARGEST):
            raise DataError(f"{file}: expected the size of {name}, found {size[0]} x {size[1]}. Mend the entry.")
        folder = self._config.image_folder(groups, file.parent)
        if folder not in self._pictures:
            self._pictures[folder] = {plain(found): folder / found for found in files_below(folder, PICTURES)}
        there = self._pictures[folder]
        path = there.get(plain(name)) or there.get(plain(name).rpartition("/")[2])
        if path is None:
            self._absent.append(folder / name)
            return
        image_id = "/".join([*groups.values(), plain(path.relative_to(folder).as_posix())])
        if image_id in self._found.items:
            raise DataError(f"{file}: expected each image once, found {name} twice. Take one entry out.")
        self._found.items[image_id] = Item(path, tuple(objects), size)

    def done(self) -> Found:
        """What was found. Raises `DataError` if there is no picture."""
        if not self._found.items:
            tried = f"{len(self._absent)} names, none of them there, e.g. {self._absent[0]}" if self._absent else "none"
            raise DataError(
                f"{self._config.path}: expected the annotations to name pictures, found {tried}. Say the pictures' "
                "folder by `images = `."
            )
        for path in self._absent:
            self._found.remark("an annotated image that is not there", path.name)
        self._found.labels = tuple(self._labels)
        return self._found


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises `DataError` naming it."""
    try:
        return json.loads(read_text(path, "annotations as JSON"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected annotations as JSON, found damage ({error}). Export it again.") from error


@contextmanager
def damaged(path: Path, expected: str, where: str = "") -> Iterator[None]:
    """Turns what goes wrong with an entry that is not as its format says into a `DataError` that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, AssertionError) as error:
        found = f"an entry without or with a foreign {error}" if not isinstance(error, AssertionError) else "others"
        raise DataError(f"{where or path}: expected {expected}, found {found}. Mend it, or export it again.") from error
