"""DeepGlobe land cover, cut into tiles as PATNet's cross-domain suite does.

Reads `Deepglobe/<1..6>/test/origin/*.jpg` with masks `.../groundtruth/<same name>.png`; a tile that shows several
classes lies in the folder of each. How many tiles there are is not settled: the paper says 5666, users of the script
counted 9174. The tiles' names of the published test are in no repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.decode import binary_png
from fssbench.datasets.reading import files_below, first_folder, read_file
from fssbench.errors import DataError, UsageError, unknown_name

PAPER = 5666  # tiles


class DeepGlobe(Dataset):
    """One fold of six classes; the names are DeepGlobe's, by the order of its colours in PATNet's script."""

    name = "deepglobe"
    class_names = {1: "agriculture", 2: "urban", 3: "rangeland", 4: "forest", 5: "water", 6: "barren"}
    folds = (tuple(class_names),)
    min_area = 1  # the script keeps what covers 7991 px

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        if pool not in ("default", "test"):
            raise UsageError(unknown_name("image list of deepglobe", pool, ["test"]))
        self.pool = "test"
        places = [root / name for name in ("", "Deepglobe", "DeepGlobe", "deepglobe")]
        found = first_folder(places, [f"{c}/test/origin" for c in self.class_names])
        if found is None:
            raise DataError(
                f"no DeepGlobe tiles at {root}: expected {root / 'Deepglobe'} with 1/test/origin to 6/test/origin, "
                "and groundtruth beside origin. Name the right folder by --root; `fssbench download deepglobe` says "
                "where to get it."
            )
        self.root = found

    def image_ids(self) -> Sequence[str]:
        return list(self._classes)

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self._folder(self._shown(image_id)[0], "origin") / f"{image_id}.jpg", f"the tile {image_id}")

    def masks(self, image_id: str) -> Sequence[Mask]:
        paths = {c: self._folder(c, "groundtruth") / f"{image_id}.png" for c in self._shown(image_id)}
        what = f"the mask of {image_id}"
        return [Mask(binary_png(read_file(path, what), str(path)), c) for c, path in paths.items()]

    def shortfall(self) -> str:
        return f"{len(self._classes)} tiles; the paper says {PAPER}, and no list of them is published"

    def _folder(self, class_id: int, name: str) -> Path:
        return self.root / str(class_id) / "test" / name

    @cached_property
    def _classes(self) -> dict[str, list[int]]:
        """Tile -> the classes in whose folders it lies."""
        found: dict[str, list[int]] = {}
        for class_id in self.class_names:
            for name in files_below(self._folder(class_id, "origin"), (".jpg",)):
                found.setdefault(name.removesuffix(".jpg"), []).append(class_id)
        return dict(sorted(found.items()))

    def _shown(self, image_id: str) -> list[int]:
        if image_id not in self._classes:
            raise DataError(f"{self.root}: expected the tile {image_id}, found {len(self._classes)} others.")
        return self._classes[image_id]
