"""folder: a user's own images and masks, described by a short `dataset.toml` beside them.

    images = "images"            # folder of JPEG or PNG files, relative to this file
    masks = "masks"              # folder of PNG files
    layout = "label-map"         # masks/<image>.png holds class ids, 0 background, 255 ignored;
                                 # or "binary": masks/<class>/<image>.png, everything but 0 is the class
    min_area = 500               # px a class must cover in an image to be used (optional)

    [classes]                    # name = class id, 1 to 254, as the label maps have it
    cat = 1
    "traffic light" = 7

    [folds]                      # optional: which classes each fold holds out; without it one fold has them all
    0 = ["cat"]
    1 = ["traffic light"]

    [lists]                      # optional: image lists, chosen by --lists; "default" if there are any
    default = "test.txt"         # one image a line, with or without suffix
    train = "train.txt"

Images and masks belong together by their names without suffix. Without a list every image of the folder is used, by
name, and must have a mask. With the layout "binary" an image has a mask in the folder of each class that it shows;
where two of them overlap, the class with the larger id is on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fssbench.datasets.base import Dataset, Mask, label_map
from fssbench.datasets.folder_config import read_config
from fssbench.datasets.reading import read_file, some
from fssbench.errors import DataError, UsageError, unknown_name

SUFFIXES = (".jpg", ".jpeg", ".png")


class Folder(Dataset):
    """Images and masks under `root`, a folder with `dataset.toml` or that file itself."""

    name = "folder"

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self._config = config = read_config(root)
        if pool != "default" and pool not in config.lists:
            raise UsageError(unknown_name(f"image list of {config.path}", pool, ["default", *config.lists]))
        self.pool = pool
        self.class_names = {number: name for name, number in sorted(config.classes.items(), key=lambda item: item[1])}
        self.folds = config.fold_ids()
        self.min_area = config.min_area

    def image_ids(self) -> Sequence[str]:
        return self._ids

    def image_bytes(self, image_id: str) -> bytes:
        return read_file(self._path(image_id), f"the image {image_id}")

    def mask(self, image_id: str) -> Mask:
        if self._config.layout == "label-map":
            return Mask(read_file(self._masks / f"{image_id}.png", f"the label map of image {image_id}"))
        return Mask.drawn(self._combined(image_id))

    @property
    def _masks(self) -> Path:
        return self._config.path.parent / self._config.masks

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Image name -> file, by name."""
        folder = self._config.path.parent / self._config.images
        if not folder.is_dir():
            raise DataError(f"{self._config.path}: expected the folder of images {folder}, found none.")
        found: dict[str, Path] = {}
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for path in paths:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise DataError(
                    f"{folder}: expected one image named {name}, found {found[name].name} and {path.name}. Rename one."
                )
            found[name] = path
        if not found:
            raise DataError(
                f"{folder}: expected images ({', '.join(SUFFIXES)}), found none among its "
                f"{sum(1 for _ in folder.rglob('*'))} files."
            )
        return found

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        listed = self._config.lists.get(self.pool)
        if listed is not None:
            return self._listed(self._config.path.parent / listed)
        without = [name for name in self._files if not self._mask_files(name)]
        if without:
            raise DataError(
                f"{self._masks}: expected a mask for each of {len(self._files)} images, found none for "
                f"{len(without)} of them: {some(without)}. Masks are {self._example()}. Add them, or name the images "
                f"to use by a list ([lists] in {self._config.path.name})."
            )
        return tuple(self._files)

    def _listed(self, path: Path) -> tuple[str, ...]:
        lines = read_file(path, f"the image list {self.pool!r}").decode("utf-8", errors="replace").splitlines()
        names = [_without_suffix(line.strip()) for line in lines if line.strip()]
        unknown = [name for name in names if name not in self._files]
        if unknown:
            raise DataError(f"{path}: expected names of images, found no image for {some(unknown)}.")
        if not names or len(set(names)) != len(names):
            raise DataError(f"{path}: expected image names, one a line and none twice, found {len(names)} names.")
        return tuple(names)

    def _path(self, image_id: str) -> Path:
        try:
            return self._files[image_id]
        except KeyError:
            raise DataError(f"{self._config.path}: expected an image {image_id}, found none of that name.") from None

    def _mask_files(self, name: str) -> dict[int, Path]:
        """Class id -> mask file of an image; class id 0 for a label map."""
        if self._config.layout == "label-map":
            places = {0: self._masks / f"{name}.png"}
        else:
            places = {
                number: self._masks / class_name / f"{name}.png" for number, class_name in self.class_names.items()
            }
        return {number: path for number, path in places.items() if path.is_file()}

    def _combined(self, image_id: str) -> NDArray[np.uint8]:
        """A label map from binary masks, smaller class ids first."""
        paths = self._mask_files(image_id)
        if not paths:
            raise DataError(f"{self._masks}: expected a mask of image {image_id}, found none; it is {self._example()}.")
        masks = {
            number: label_map(Mask(read_file(path, "a mask"), number), str(path)) for number, path in paths.items()
        }
        shapes = {mask.shape: paths[number] for number, mask in masks.items()}
        if len(shapes) > 1:
            sizes = "; ".join(f"{path}: {shape[0]} x {shape[1]}" for shape, path in shapes.items())
            raise DataError(f"expected all masks of image {image_id} to have one size, found {sizes}.")
        labels = np.zeros(next(iter(shapes)), dtype=np.uint8)
        for number, mask in masks.items():
            labels[mask == number] = number
        return labels

    def _example(self) -> str:
        name = "<image>.png" if self._config.layout == "label-map" else "<class>/<image>.png"
        return f"expected at {self._masks / name}"


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else path.as_posix()
