"""What a data set answers: which images, which label map, which classes, which fold holds which classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence

from fssbench.datasets.decode import decode_mask
from fssbench.datasets.masks import VOID, Labels, Layers, Mask
from fssbench.errors import DataError

__all__ = ["VOID", "Dataset", "Layers", "Mask", "label_map", "layers"]


def difference(ids: Collection[Hashable], published: Collection[Hashable] | int, pool: str) -> str:
    """What `Dataset.shortfall` says of a pool's images beside a published list, or its mere number of images."""
    total = published if isinstance(published, int) else len(published)
    there = len(ids) if isinstance(published, int) else len(set(ids) & set(published))
    if there == len(ids) == total:
        return ""
    foreign = f" and {len(ids) - there} that it has not" if there < len(ids) else ""
    return f"{there} of the {total} images of the published list {pool}{foreign}"


def other_classes(folds: Sequence[Sequence[int]], published: Sequence[int], name: str) -> str:
    """What `Dataset.shortfall` says of classes that follow from the files: how many a fold, if not as published.

    >>> other_classes([(1, 2), (3,)], [2, 2], "parts"), other_classes([(1,)], [1], "parts")
    ('2, 1 classes a fold, where parts has 2, 2', '')
    """
    found = [len(fold) for fold in folds]
    if found == list(published):
        return ""
    return f"{', '.join(map(str, found))} classes a fold, where {name} has {', '.join(map(str, published))}"


class Dataset(ABC):
    """A data set with class ids 1..C, folds of held-out classes, and the masks of every image.

    Where no pixel belongs to two classes, `mask` gives an image's label map. Where objects of several classes may
    overlap (parts, LVIS), `masks` is overridden instead, and gives one mask a class.

    `pool` names the list of images that is in use, e.g. "val". Everything a data set returns is in a fixed order that
    does not depend on the file system.
    """

    name: str
    pool: str = "default"
    split: str = "default"  # which classes a fold holds out, where there are several published cuts
    class_names: Mapping[int, str]  # class id -> name, ids from 1
    folds: Sequence[tuple[int, ...]]  # fold -> the class ids it holds out
    list_pools: Sequence[str] = ()  # pools where the images of a list of the user's may be, beside the default
    min_area: int | None = None  # px; the area filter that suits its image size, where the protocol's 2048 does not

    @abstractmethod
    def image_ids(self) -> Sequence[str]:
        """The images of the pool, in the list's order."""

    @abstractmethod
    def image_bytes(self, image_id: str) -> bytes:
        """The image file's own bytes (JPEG or PNG). Raises `DataError` naming the file if it is absent."""

    def mask(self, image_id: str) -> Mask:
        """The image's label map. Raises `DataError` naming the file if it is absent."""
        raise DataError(f"{self.name}: expected a label map of {image_id}, found one mask a class: ask for `masks`.")

    def masks(self, image_id: str) -> Sequence[Mask]:
        """The label map alone, or one mask for each class that the image shows. Raises `DataError` as `mask` does."""
        return (self.mask(image_id),)

    def fold_image_ids(self, fold: int) -> Sequence[str]:
        """The images that episodes of this fold may use, in the list's order."""
        return self.image_ids()

    def fold_classes(self, fold: int) -> tuple[int, ...]:
        """The classes that episodes of this fold are drawn for: those it holds out, unless the pool is for training."""
        return tuple(self.folds[fold])

    def pairs(self, fold: int) -> Sequence[tuple[str, int]] | None:
        """The (image, class) pairs that may be drawn, where a published list fixes them; else None."""
        return None

    def part(self, image_ids: Sequence[str]) -> Dataset:
        """What reads these images and their masks in another process, to which it goes by pickle.

        The data set itself, once, unless it carries something large of which a few images need a small piece: then a
        small copy for these images. Open files and functions stay behind by `__getstate__`.
        """
        return self

    def same_files(self) -> Sequence[Sequence[str]]:
        """Groups of images that must not meet in an episode: files of the same bytes, crops of one photograph."""
        return ()

    def shortfall(self) -> str:
        """In what the images differ from the published list of the pool; empty if in nothing, or if none is known."""
        return ""


def label_map(mask: Mask, where: str) -> Labels:
    """Decode a mask to H x W class ids. Raises `DataError` (naming `where`) if it is no index or grey PNG."""
    return decode_mask(mask, where)


def layers(dataset: Dataset, image_id: str) -> Layers:
    """The decoded masks of an image. Raises `DataError` naming the image for what cannot be read."""
    where = f"{dataset.name}: mask of {image_id}"
    return Layers.of([(mask.class_id, decode_mask(mask, where)) for mask in dataset.masks(image_id)], where)
