"""A data set as somebody else's package brings it: one class a folder, `<name>.jpg` beside `<name>_mask.png`.

`docs/adding-a-dataset.md` shows this file.
"""

from collections.abc import Sequence
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.reading import files_below, read_file
from fssbench.errors import DataError, UsageError, unknown_name


class Polyps(Dataset):
    """Three kinds of polyps, each in a fold of its own; `pool` is "test" (the default) or "train"."""

    name = "polyps"
    class_names = {1: "flat", 2: "sessile", 3: "stalked"}
    folds = ((1,), (2,), (3,))
    min_area = 50  # px a class must cover to be drawn, at the size of these images

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self.pool = "test" if pool == "default" else pool
        if self.pool not in ("test", "train"):
            raise UsageError(unknown_name("image list of polyps", pool, ["test", "train"]))
        self._folder = root / "polyps" / self.pool
        if not self._folder.is_dir():
            raise DataError(f"no polyps at {root}: expected the folder {self._folder}. Name the right one by --root.")
        self._numbers = {name: number for number, name in self.class_names.items()}
        self._ids = [path.removesuffix(".jpg") for path in files_below(self._folder, (".jpg",))]

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self._folder / f"{image_id}.jpg", f"the image {image_id}")

    def mask(self, image_id: str) -> Mask:
        encoded = read_file(self._folder / f"{image_id}_mask.png", f"the mask of {image_id}")
        return Mask(encoded, self._numbers[image_id.split("/")[0]])
