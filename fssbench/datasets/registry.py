"""Names of data sets, resolved on first use, and where their files are looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fssbench.datasets.base import Dataset
from fssbench.datasets.lists import Listed
from fssbench.datasets.own.config import FILE, read_config
from fssbench.errors import DataError, UsageError
from fssbench.plugins import Plugins
from fssbench.protocol import Protocol

BUILT_IN: dict[str, str] = {
    "chestxray": "fssbench.datasets.chestxray:ChestXray",
    "deepglobe": "fssbench.datasets.deepglobe:DeepGlobe",
    "isaid5i": "fssbench.datasets.isaid5i:Isaid5i",
    "isic2018": "fssbench.datasets.isic2018:Isic2018",
    "lvis92i": "fssbench.datasets.lvis92i:Lvis92i",
    "paco_part": "fssbench.datasets.paco_part:PacoPart",
    "pascal_part": "fssbench.datasets.pascal_part:PascalPart",
    "pascal5i": "fssbench.datasets.pascal5i:Pascal5i",
    "coco20i": "fssbench.datasets.coco20i:Coco20i",
    "fss1000": "fssbench.datasets.fss1000:Fss1000",
    "shapes5i": "fssbench.datasets.shapes5i:Shapes5i",
    "folder": "fssbench.datasets.own.dataset:Folder",
}

DATASETS = Plugins("data set", "fssbench.datasets.base:Dataset", BUILT_IN, "fssbench.datasets", UsageError)

ROOT_VARIABLE = "FSSBENCH_DATA"


def data_root(option: Path | None = None) -> Path:
    """Where data sets lie: the option, else the variable `FSSBENCH_DATA`, else `data` in the working folder."""
    return option or Path(os.environ.get(ROOT_VARIABLE) or "data")


def dataset_names() -> list[str]:
    """Every name that `find_dataset` knows: what is built in, and installed plug-ins."""
    return DATASETS.names()


def find_dataset(name: str) -> type[Dataset]:
    """The class of a data set, by its name, an installed plug-in's, `package.module:Class` or `file.py:Class`.

    Raises `UsageError` with the nearest known names, or with what failed while importing.
    """
    found: type[Dataset] = DATASETS.find(name)
    return found


def open_dataset(name: str, root: Path | None = None, **options: Any) -> Dataset:
    """A data set by its name, or by its `dataset.toml`; `options` are the data set's own, None leaves one out.

    `pool` may be a list's file, for any data set. Raises `UsageError` for an unknown name or option, `DataError` if
    the files are not at the root.
    """
    pool = options.get("pool")
    if pool is not None and Path(pool).is_file():
        return _listed(name, root, Path(pool), {**options, "pool": None})
    described = _described(name, root)
    factory = find_dataset("folder" if described else name)
    root = described or root
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return factory(data_root(root), **given)  # type: ignore[call-arg]
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UsageError(f"data set {name}: {str(error).partition(' got an ')[2]}; leave that option out.") from error


def _described(name: str, root: Path | None) -> Path | None:
    """The description that a name is, or that lies at the root of a data set of this name."""
    if Path(name).suffix == ".toml" or (Path(name) / FILE).is_file():
        return Path(name)
    place = data_root(root)
    there = name not in BUILT_IN and (place.suffix == ".toml" or (place / FILE).is_file())
    return place if there and read_config(place).title == name else None


def _listed(name: str, root: Path | None, path: Path, options: dict[str, Any]) -> Dataset:
    """A data set cut down to a list, whose images may be in any of its pools; as few are opened as have them all."""
    kind = find_dataset("folder" if _described(name, root) else name)
    pools: list[Dataset] = []
    absent: list[DataError] = []
    unlisted: list[DataError] = []
    for pool in (None, *kind.list_pools):
        try:
            pools.append(open_dataset(name, root, **{**options, "pool": pool}))
        except DataError as error:
            absent.append(error)
            continue
        try:
            return Listed(pools, path)
        except DataError as error:
            unlisted.append(error)
    raise unlisted[-1] if unlisted else absent[0]


def open_under(
    protocol: Protocol, name: str, root: Path | None = None, *, pool: str | None = None, split: str | None = None
) -> tuple[Dataset, Protocol]:
    """A data set with the images and folds that a protocol is about, and the protocol as it then is.

    `pool` and `split` are the user's own wishes. The default protocol takes the area filter that suits the data set.
    """
    wanted = None if protocol.split == "default" else protocol.split
    dataset = open_dataset(name, root, pool=pool or protocol.pool, split=split or wanted)
    if protocol.name == "fssbench" and dataset.min_area is not None:
        protocol = protocol.but(min_area=dataset.min_area)
    return dataset, protocol.but(pool=dataset.pool, split=dataset.split)
