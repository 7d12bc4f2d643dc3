"""SBD's MATLAB files become VOC's palette PNGs, and VOC val stays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench, refused
from PIL import Image
from scipy.io import savemat

from fssbench.datasets.pascal5i import Pascal5i
from fssbench.datasets.sbd import convert_sbd, read_mat, voc_palette
from fssbench.errors import DataError

VAL, TRAIN, SBD_ONLY, SBD_TOO = "2007_000033", "2007_000032", "2008_000002", "2008_000003"
VAL_OF_SBD = "2007_000061"  # which this VOC lacks


def labels(class_id: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    values = np.zeros((48, 64), dtype=np.uint8)
    values[10:30, 5:40] = class_id
    return values


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    folder = tmp_path / "sbd" / "benchmark_RELEASE" / "dataset" / "cls"
    folder.mkdir(parents=True)
    for number, image_id in enumerate((VAL, TRAIN, SBD_ONLY, SBD_TOO, VAL_OF_SBD)):
        truth = {"Boundaries": np.zeros(20), "Segmentation": labels(number + 1), "CategoriesPresent": number + 1}
        savemat(folder / f"{image_id}.mat", {"GTcls": truth}, do_compression=True)
    return tmp_path / "sbd"


@pytest.fixture
def voc(make_voc: Callable[..., Path]) -> Path:
    place = make_voc({VAL: [9], TRAIN: [10]}) / "VOCdevkit" / "VOC2012"
    (place / "SegmentationClassAug").rename(place / "SegmentationClass")
    (place / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{VAL}\n")
    return place


def test_sbd_is_added_and_vocs_own_masks_win(sbd: Path, voc: Path) -> None:
    assert convert_sbd(sbd, voc) == 3
    out = voc / "SegmentationClassAug"
    assert {path.stem for path in out.iterdir()} == {VAL, TRAIN, SBD_ONLY, SBD_TOO}
    for image_id in (VAL, TRAIN):
        assert (out / f"{image_id}.png").read_bytes() == (voc / "SegmentationClass" / f"{image_id}.png").read_bytes()
    added = Image.open(out / f"{SBD_ONLY}.png")
    assert added.mode == "P"
    assert (np.asarray(added) == labels(3)).all()


def test_the_command_fills_vocs_folder_and_lists_what_is_for_training(
    sbd: Path, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSBENCH_DATA", str(voc.parents[1]))
    out = voc / "SegmentationClassAug"
    assert fssbench("convert-sbd", sbd).out == f"{out}: 3 training images, listed in trainaug.txt\n"
    listed = (voc / "ImageSets" / "Segmentation" / "trainaug.txt").read_text()
    assert listed == f"{TRAIN}\n{SBD_ONLY}\n{SBD_TOO}\n"
    for image_id, class_id in ((SBD_ONLY, 3), (SBD_TOO, 4)):
        assert (np.asarray(Image.open(out / f"{image_id}.png")) == labels(class_id)).all()
    assert "benchmark.tgz" in refused("convert-sbd", voc, "--root", voc.parents[1])


def test_val_images_are_kept_out_of_training(sbd: Path, voc: Path) -> None:
    convert_sbd(sbd, voc)
    assert Pascal5i(voc, pool="trainaug").image_ids() == (TRAIN, SBD_ONLY, SBD_TOO)


def test_masks_that_are_there_are_kept(sbd: Path, voc: Path) -> None:
    convert_sbd(sbd, voc)
    mine = voc / "SegmentationClassAug" / f"{SBD_ONLY}.png"
    mine.write_bytes(b"mine")
    convert_sbd(sbd, voc)
    assert mine.read_bytes() == b"mine"


def test_the_palette_is_vocs() -> None:
    colours = np.array(voc_palette()).reshape(256, 3).tolist()
    # From the development kit's documentation.
    assert colours[:5] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert (colours[15], colours[20], colours[255]) == ([192, 128, 128], [0, 64, 128], [224, 224, 192])


def test_a_damaged_file_is_named(sbd: Path) -> None:
    path = sbd / "benchmark_RELEASE" / "dataset" / "cls" / f"{SBD_ONLY}.mat"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2008_000002\.mat: expected an SBD file"):
        read_mat(path)


def test_a_damaged_byte_of_a_packed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"GTcls": {"Segmentation": np.eye(20, dtype=np.uint8)}}, do_compression=True)
    raw = bytearray(path.read_bytes())
    for place in range(140, len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 255]) + raw[place + 1 :])
        with pytest.raises(DataError, match=r"a\.mat: expected an SBD file"):
            read_mat(path)


def test_what_a_mac_leaves_beside_a_file_is_passed_over(sbd: Path, voc: Path) -> None:
    (sbd / "benchmark_RELEASE" / "dataset" / "cls" / f"._{SBD_ONLY}.mat").write_bytes(b"a Mac's")
    assert convert_sbd(sbd, voc) == len((voc / "ImageSets/Segmentation/trainaug.txt").read_text().split())


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "other.mat", {"x": 3})
    with pytest.raises(DataError, match="GTcls"):
        read_mat(tmp_path / "other.mat")


def test_missing_data_says_what_to_unpack(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"benchmark\.tgz"):
        convert_sbd(tmp_path, tmp_path)
