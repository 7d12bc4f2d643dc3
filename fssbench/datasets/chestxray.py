"""Chest X-ray (both lungs as one class) as PATNet's cross-domain suite uses it.

Reads `LungSegmentation/CXR_png/<image>.png` and `LungSegmentation/masks/<image>_mask.png`. The pool is the sorted masks
of that name, by inference the Shenzhen part; masks with the image's own name (the Montgomery part) are passed over, as
the published rule cannot read them. Its list is in no repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.decode import binary_png
from fssbench.datasets.reading import files_below, first_folder, read_file
from fssbench.errors import DataError, UsageError, unknown_name

_MASK = "_mask.png"


class ChestXray(Dataset):
    """One fold of one class."""

    name = "chestxray"
    class_names = {1: "lungs"}
    folds = ((1,),)
    min_area = 1

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        if pool not in ("default", "all"):
            raise UsageError(unknown_name("image list of chestxray", pool, ["all"]))
        self.pool = "all"
        found = first_folder([root / name for name in ("", "LungSegmentation", "chestxray")], ["CXR_png", "masks"])
        if found is None:
            raise DataError(
                f"no chest X-rays at {root}: expected {root / 'LungSegmentation'} with CXR_png and masks. Name the "
                "right folder by --root; `fssbench download chestxray` says where to get them."
            )
        self.root = found
        self._masks = files_below(found / "masks", (".png",))
        self._ids = [name.removesuffix(_MASK) for name in self._masks if name.endswith(_MASK)]

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self.root / "CXR_png" / f"{image_id}.png", f"the image {image_id}")

    def mask(self, image_id: str) -> Mask:
        path = self.root / "masks" / f"{image_id}{_MASK}"
        return Mask(binary_png(read_file(path, f"the mask of {image_id}"), str(path)), 1)

    def shortfall(self) -> str:
        others = len(self._masks) - len(self._ids)
        rest = f", {others} masks of another name passed over" if others else ""
        return f"{len(self._ids)} images{rest}; no list of the published test is known"
