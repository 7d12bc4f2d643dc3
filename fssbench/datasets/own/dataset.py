"""folder: a user's own images and annotations, described by a short `dataset.toml` (`fssbench.datasets.own.config`)."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.decode import FORMATS, OWN_FORMATS, decode_image, image_size, opened_image
from fssbench.datasets.lists import read_list
from fssbench.datasets.masks import VOID, Labels, Layers
from fssbench.datasets.own.config import read_config
from fssbench.datasets.own.formats import Found, Item, read_items
from fssbench.datasets.own.label_maps import LabelReader
from fssbench.datasets.own.pixels import cut, is_soft
from fssbench.datasets.own.shapes import MaskFile
from fssbench.datasets.reading import encode_png, read_file, some
from fssbench.errors import DataError, UsageError, unknown_name
from fssbench.files import sha256_file


class Folder(Dataset):
    """Images and masks that a `dataset.toml` at `root` (a folder, or that file itself) describes.

    `pool` is a list of its [lists], or "all" for every image; without one it is the list "default", or all if none is.
    """

    list_pools = ("all",)

    def __init__(self, root: Path, *, pool: str = "default") -> None:
        self.config = config = read_config(root)
        if pool not in ("default", "all", *config.lists):
            raise UsageError(unknown_name(f"image list of {config.path}", pool, ["default", "all", *config.lists]))
        self.pool, self.name, self.min_area = pool, config.title, config.min_area
        self._ids = config.ids() or {name: number for number, name in enumerate(self._used, start=1)}
        self.class_names = {number: name for name, number in sorted(self._ids.items(), key=lambda pair: pair[1])}
        self.folds = self._fold_ids()
        self._labels = LabelReader(config, self._ids) if config.format == "label-map" else None

    def image_ids(self) -> Sequence[str]:
        return self._listed

    def image_bytes(self, image_id: str) -> bytes:
        """The file's own bytes; TIFF, GIF, BMP and WebP become PNG."""
        path = self._item(image_id).image
        encoded = read_file(path, f"the image {image_id}")
        with opened_image(encoded, str(path), " or ".join(OWN_FORMATS), OWN_FORMATS) as image:
            if image.format in FORMATS:
                return encoded
        return encode_png(np.asarray(decode_image(encoded, str(path), OWN_FORMATS)))

    def mask(self, image_id: str) -> Mask:
        """One label map; where objects of several classes overlap, the smaller class id is on top."""
        masks = self.masks(image_id)
        if len(masks) == 1 and not masks[0].class_id:
            return masks[0]
        found = [(mask.class_id, mask.labels) for mask in masks if mask.labels is not None]
        return Mask.drawn(Layers.of(found, image_id).label_map(0))

    def masks(self, image_id: str) -> Sequence[Mask]:
        """The label map, or one mask for each class that the image shows, as annotated."""
        item = self._item(image_id)
        if self._labels is not None and item.label_map is not None:
            return (self._labels.read(item.label_map),)
        drawn: dict[int, Labels] = {}
        height, width = item.size or self._size(item)
        for one in item.objects:
            number = self._ids.get(one.label)
            if number is None or one.shape is None:
                continue
            try:
                pixels = one.shape.draw(height, width)
            except ValueError as error:
                raise DataError(
                    f"{self.name}: {image_id}: expected a mask of {one.label} of {height} x {width} px, found {error}. "
                    "Mend the annotation."
                ) from error
            if number in drawn and drawn[number].shape != pixels.shape:
                raise DataError(
                    f"expected all masks of image {image_id} to have one size, found {_size(drawn[number])} and "
                    f"{_size(pixels)}."
                )
            labels = drawn.setdefault(number, np.zeros(pixels.shape, np.uint8 if number < VOID else np.uint16))
            labels[pixels] = number
        shown = [Mask.drawn(labels, number) for number, labels in sorted(drawn.items()) if labels.any()]
        blank = next(iter(drawn.values())).shape if drawn else (height, width)
        return shown or (Mask.drawn(np.zeros(blank, np.uint8)),)

    def part(self, image_ids: Sequence[str]) -> Dataset:
        small = copy.copy(self)
        wanted = [image_id for image_id in image_ids if image_id in self._found.items]
        small.__dict__["_found"] = Found({image_id: self._found.items[image_id] for image_id in wanted})
        small.__dict__["_listed"] = tuple(wanted)
        small.__dict__["remarks"] = {}
        return small

    @cached_property
    def remarks(self) -> Mapping[str, Sequence[str]]:
        """What to know of the files: each with the images (or files) that it is true of."""
        remarks = {what: list(which) for what, which in self._found.remarks.items()}
        foreign: Counter[str] = Counter()
        for image_id in self._listed:
            for one in self._item(image_id).objects:
                if one.label not in self._ids:
                    foreign[one.label] += 1
                elif one.shape is None:
                    remarks.setdefault(f"{one.kind} of {one.label} without a mask, left out", []).append(image_id)
        for label, count in foreign.items():
            remarks[f"objects called {label!r}, which is no class of dataset.toml, left out: {count}"] = []
        unused = [label for label in self._found.labels if label not in self._used]
        if unused and self.config.format not in ("label-map", "binary"):
            remarks["a class of the annotations that no object has"] = unused
        if self.config.format == "label-map":
            ignored = [VOID] if self.config.void is None else self.config.void
            taken = [value for value in self.config.background if value not in ignored]
            void, background = (", ".join(map(str, values)) or "none" for values in (ignored, taken))
            remarks[f"in the masks background is {background}, and void is {void}"] = []
        empty = [image_id for image_id in self._listed if image_id in self._found.bare]
        if empty:
            remarks["an image without a mask file, taken as showing no object"] = empty
        return remarks

    def same_files(self) -> Sequence[Sequence[str]]:
        by_size: dict[int, list[str]] = defaultdict(list)
        for image_id in self._listed:
            by_size[self.file_of(image_id).stat().st_size].append(image_id)
        by_content: dict[str, list[str]] = defaultdict(list)
        for image_id in (i for alike in by_size.values() if len(alike) > 1 for i in alike):
            by_content[sha256_file(self.file_of(image_id))].append(image_id)
        return [same for same in by_content.values() if len(same) > 1]

    def softness(self, image_id: str) -> tuple[int, int]:
        """Px of its soft binary masks that are cut off, though above 0, and px that are kept; 0, 0 if none is soft."""
        cut_off = kept = 0
        for one in self._item(image_id).objects:
            picture = one.shape.picture() if isinstance(one.shape, MaskFile) else None
            if picture is not None and is_soft(picture):
                inside = int(cut(picture, self.config.threshold).sum())
                kept, cut_off = kept + inside, cut_off + int((picture.levels() > 0).sum()) - inside
        return cut_off, kept

    def file_of(self, image_id: str) -> Path:
        """The picture's file."""
        return self._item(image_id).image

    @cached_property
    def _found(self) -> Found:
        found = read_items(self.config)
        objects = [one for item in found.items.values() for one in item.objects]
        if objects and not any(one.shape for one in objects):
            kinds = some(sorted({one.kind for one in objects}))
            raise DataError(
                f"{self.config.path}: expected masks, found none: none of {len(objects)} annotations has a mask (kind: "
                f"{kinds}; `segmentation` is empty). Draw outlines, or make masks of the boxes, and export again."
            )
        return found

    @cached_property
    def _used(self) -> tuple[str, ...]:
        """The labels that a mask has, in the file's order."""
        if self.config.format in ("label-map", "binary"):
            return self._found.labels
        shown = {one.label for item in self._found.items.values() for one in item.objects if one.shape is not None}
        return tuple(label for label in self._found.labels if label in shown)

    @cached_property
    def _listed(self) -> tuple[str, ...]:
        listed = self.config.lists.get(self.pool)
        ids = list(self._found.items)
        if listed is not None:
            ids = list(read_list(self.config.base / listed, ids).images)
        without = [image_id for image_id in ids if image_id in self._found.bare]
        if without and self.config.without_mask == "refuse":
            where = self.config.annotations or self.config.mask_pattern
            raise DataError(
                f"{self.config.path}: expected a mask for each of {len(ids)} images, found none for {len(without)} of "
                f"them: {some(without)}. Masks are expected at {self.config.base / where}. Add them; or say "
                'without_mask = "empty" if these images show no object; or name the images to use by a list ([lists]).'
            )
        return tuple(ids)

    def _fold_ids(self) -> tuple[tuple[int, ...], ...]:
        if not self.config.folds:
            return (tuple(sorted(self._ids.values())),)
        unknown = [name for names in self.config.folds.values() for name in names if name not in self._ids]
        if unknown:
            raise DataError(f"{self.config.path}: {unknown_name('class in [folds]', unknown[0], self._ids)}")
        return tuple(
            tuple(sorted(self._ids[name] for name in self.config.folds[str(i)])) for i in range(len(self.config.folds))
        )

    def _item(self, image_id: str) -> Item:
        try:
            return self._found.items[image_id]
        except KeyError:
            raise DataError(f"{self.config.path}: expected an image {image_id}, found none of that name.") from None

    def _size(self, item: Item) -> tuple[int, int]:
        if item.objects and all(one.draws_itself for one in item.objects if one.shape is not None):
            return 0, 0
        return image_size(read_file(item.image, "an image"), str(item.image), OWN_FORMATS, whole=False)


def _size(labels: Labels) -> str:
    return f"{labels.shape[0]} x {labels.shape[1]}"
