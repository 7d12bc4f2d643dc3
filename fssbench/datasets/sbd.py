"""SBD, the Semantic Boundaries Dataset: MATLAB files to the palette PNGs that VOC uses.

SBD labels 11355 images of VOC 2011, among them images of VOC 2012 val with other outlines than VOC's own. Those are
kept out, and where both label an image of VOC train, VOC's mask is taken.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from fssbench.datasets.reading import encode_png
from fssbench.datasets.voc_lists import voc_ids
from fssbench.errors import DataError
from fssbench.files import atomic_path, atomic_write_text
from fssbench.progress import Progress, quiet

OUT = "SegmentationClassAug"
_DAMAGE = (
    *(MatReadError, OSError, KeyError, AttributeError, ValueError, TypeError, NotImplementedError),
    *(zlib.error, IndexError, OverflowError, EOFError, MemoryError),
)


def convert_sbd(sbd: Path, voc: Path, progress: Progress = quiet) -> int:
    """Fill `voc`/SegmentationClassAug from VOC's SegmentationClass and SBD's `cls/*.mat`; list trainaug.txt.

    Masks that are there already are kept. Returns how many images the new list has. Raises `DataError` where either
    data set is missing or a file is damaged.
    """
    matrices = sorted(_cls_folder(sbd).glob("[!.]*.mat"))
    own = {path.stem: path for path in (voc / "SegmentationClass").glob("*.png")}
    if not matrices or not own:
        raise DataError(
            f"expected .mat files in {sbd} (cls) and VOC's masks in {voc / 'SegmentationClass'}, "
            f"found {len(matrices)} and {len(own)}. Unpack SBD (benchmark.tgz) and VOC 2012 first."
        )
    out, val = voc / OUT, set(_val_ids(voc))
    out.mkdir(exist_ok=True)
    added = [path for path in matrices if path.stem not in val and path.stem not in own]
    for image_id, path in own.items():
        if not (out / f"{image_id}.png").exists():
            with atomic_path(out / f"{image_id}.png") as temporary:
                shutil.copyfile(path, temporary)
    for path in progress(added, "converting SBD"):
        target = out / f"{path.stem}.png"
        if not target.exists():
            with atomic_path(target) as temporary:
                temporary.write_bytes(label_png(read_mat(path)))
    listed = sorted({path.stem for path in added} | (own.keys() - val))
    atomic_write_text(voc / "ImageSets" / "Segmentation" / "trainaug.txt", "".join(f"{name}\n" for name in listed))
    return len(listed)


def read_mat(path: Path) -> NDArray[np.uint8]:
    """H x W class ids of one SBD file (its `GTcls.Segmentation`). Raises `DataError` if it is damaged."""
    try:
        labels = loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
    except _DAMAGE as error:
        raise DataError(f"{path}: expected an SBD file with GTcls.Segmentation, found none ({error}).") from error
    values = np.asarray(labels)
    if values.ndim != 2 or values.dtype != np.uint8 or values.max(initial=0) > 20:
        raise DataError(f"{path}: expected an H x W label map of classes 0 to 20, found {values.dtype} {values.shape}.")
    return values


def label_png(labels: NDArray[np.uint8]) -> bytes:
    """A palette PNG whose indices are the class ids, with VOC's colours."""
    return encode_png(labels, bytes(voc_palette()))


def voc_palette() -> list[int]:
    """VOC's 256 colours, flat: the bits of the index, three by three, from the highest bit of R, G and B down."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = ((index >> (3 * step + channel) & 1) << (7 - step) for step in range(8))
            colours.append(sum(bits))
    return colours


def _cls_folder(sbd: Path) -> Path:
    places = [sbd / "benchmark_RELEASE" / "dataset" / "cls", sbd / "dataset" / "cls", sbd / "cls"]
    return next((place for place in places if place.is_dir()), sbd)


def _val_ids(voc: Path) -> Iterable[str]:
    path = voc / "ImageSets" / "Segmentation" / "val.txt"
    return {*voc_ids("val"), *(path.read_text(encoding="utf-8").split() if path.is_file() else ())}
