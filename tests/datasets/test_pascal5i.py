"""PASCAL-5i reads VOC's layout, a zip of masks, and the published lists."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from fssbench.banks.generate import Request, generate
from fssbench.datasets.base import label_map
from fssbench.datasets.pascal5i import POOLS, Pascal5i
from fssbench.datasets.reading import encode_png
from fssbench.datasets.registry import open_dataset
from fssbench.datasets.voc_lists import pascal5i_pairs, voc_ids
from fssbench.errors import DataError, UsageError
from fssbench.protocols import FSSBENCH

MakeVoc = Callable[..., Path]
PAIR_LISTS: tuple[Literal["val", "oslsm", "train"], ...] = ("val", "oslsm", "train")
SMALL = Request(FSSBENCH.but(episodes=4, min_area=100), shots=(1,), folds=(0,))


def masks_of(root: Path) -> Path:
    return root / "VOCdevkit" / "VOC2012" / "SegmentationClassAug"


def test_the_packaged_lists_have_the_published_lengths() -> None:
    assert (len(voc_ids("val")), len(voc_ids("trainaug"))) == (1449, 10582)
    assert not set(voc_ids("val")) & set(voc_ids("trainaug"))
    per_fold = [
        [sum((c - 1) // 5 == fold for _, c in pascal5i_pairs(n)) for fold in range(4)] for n in ("val", "train")
    ]  # type: ignore[arg-type]
    assert per_fold == [[346, 451, 725, 346], [2286, 3425, 5883, 2086]]
    assert [sum((c - 1) // 5 == fold for _, c in pascal5i_pairs("oslsm")) for fold in range(4)] == [347, 450, 725, 345]


@pytest.mark.parametrize("name", ["val", "train"])
def test_the_packaged_lists_are_the_published_files(name: str, shared_material: Path) -> None:
    for fold in range(4):
        text = (shared_material / "splits" / f"pascal5i_{name}_fold{fold}.txt").read_text()
        lines = [f"{image}__{c:02d}\n" for image, c in pascal5i_pairs(name) if (c - 1) // 5 == fold]  # type: ignore[arg-type]
        assert "".join(lines) == text


def test_listed_val_images_are_val_images_and_train_images_are_not() -> None:
    assert {image for image, _ in pascal5i_pairs("val")} <= set(voc_ids("val"))
    assert {image for image, _ in pascal5i_pairs("train")} <= set(voc_ids("trainaug"))


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_voc_or_a_folder_it_lies_in(inner: str, small_voc_original: Path) -> None:
    assert len(Pascal5i(small_voc_original / inner).image_ids()) == 160


def test_the_root_comes_from_the_option_then_the_variable_then_the_working_folder(
    small_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FSSBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)  # holds data/
    assert len(open_dataset("pascal5i").image_ids()) == 160
    monkeypatch.setenv("FSSBENCH_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        open_dataset("pascal5i")
    assert len(open_dataset("pascal5i", small_voc).image_ids()) == 160


def test_unknown_names_and_options_are_refused(small_voc_original: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'pascal5i'"):
        open_dataset("pascal5", small_voc_original)
    with pytest.raises(UsageError, match="did you mean 'trainaug'"):
        open_dataset("pascal5i", small_voc_original, pool="trainag")
    with pytest.raises(UsageError, match="split"):
        open_dataset("pascal5i", small_voc_original, split="interleaved")


def test_masks_are_read_by_index_not_by_colour(small_voc_original: Path) -> None:
    data = Pascal5i(small_voc_original)
    labels = label_map(data.mask("2007_003000"), "mask")
    assert set(np.unique(labels)) == {0, 3, 4, 255}


def test_a_zip_of_masks_and_a_folder_of_masks_agree(small_voc: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for path in masks_of(small_voc).iterdir():
            archive.write(path, f"SegmentationClassAug/{path.name}")
    zipped = Pascal5i(tmp_path / "masks.zip")
    zipped.__dict__["_ids"] = Pascal5i(small_voc).image_ids()  # a zip has no list of its own
    assert zipped.mask("2007_003000") == Pascal5i(small_voc).mask("2007_003000")


def test_masks_of_classes_are_taken_from_a_zip_that_holds_masks_of_objects_too(small_voc: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for path in masks_of(small_voc).iterdir():
            archive.write(path, f"VOC2012/SegmentationClass/{path.name}")
            archive.writestr(f"VOC2012/SegmentationObject/{path.name}", encode_png(np.ones((48, 64), np.uint8)))
            archive.writestr(f"__MACOSX/VOC2012/SegmentationClass/._{path.name}", b"a Mac's")
    assert Pascal5i(tmp_path / "masks.zip").mask("2007_003000") == Pascal5i(small_voc).mask("2007_003000")


@pytest.mark.parametrize(("names", "found"), [(["a/1.png", "b/1.png"], "a, b"), (["a/1.jpg"], "none")])
def test_a_zip_that_does_not_say_where_its_masks_are_is_refused(names: list[str], found: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(DataError, match=rf"masks\.zip: expected masks in a folder .*, found {found}"):
        Pascal5i(tmp_path / "masks.zip").mask("2007_003000")


def test_a_damaged_member_of_a_zip_of_masks_is_named(small_voc: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SegmentationClass/2007_003000.png", bytes(range(256)) * 40)
    raw = bytearray((tmp_path / "masks.zip").read_bytes())
    start = raw.index(b".png") + 4
    for place in range(start, start + 60):
        raw[place] ^= 0xFF
        (tmp_path / "masks.zip").write_bytes(raw)
        with pytest.raises(DataError, match="the mask of 2007_003000 cannot be read"):
            Pascal5i(tmp_path / "masks.zip").mask("2007_003000")


def test_a_data_set_travels_to_another_process_with_a_zip_open(small_voc: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        archive.write(masks_of(small_voc) / "2007_003000.png", "2007_003000.png")
    data = Pascal5i(tmp_path / "masks.zip")
    assert pickle.loads(pickle.dumps(data)).mask("2007_003000") == data.mask("2007_003000")
    assert pickle.loads(pickle.dumps(data)).mask("2007_003000") == data.mask("2007_003000")


def test_without_a_list_at_the_root_the_published_list_holds(small_voc: Path) -> None:
    shutil.rmtree(small_voc / "VOCdevkit/VOC2012/ImageSets")
    assert Pascal5i(small_voc).image_ids() == voc_ids("val")


def test_a_list_at_the_root_cuts_the_published_pairs_down(make_voc: MakeVoc) -> None:
    root = make_voc({"2007_000033": [1], "2007_000061": [4], "2007_000042": [19]})
    data = Pascal5i(root, pool="hsnet")
    assert data.pairs(0) == (("2007_000033", 1), ("2007_000061", 4))
    assert data.fold_image_ids(0) == ("2007_000033", "2007_000061")
    assert data.pairs(3) == (("2007_000042", 19),)


def test_training_pools_have_the_base_classes_and_no_novel_drops_what_shows_a_novel_one(make_voc: MakeVoc) -> None:
    root = make_voc({"2007_000032": [1], "2007_000039": [1, 20], "2007_000063": [12]}, lists="trainaug")
    for pool in ("train", "no-novel"):
        data = Pascal5i(root, pool=pool)
        assert data.fold_classes(0) == tuple(range(6, 21))
        assert data.fold_classes(3) == tuple(range(1, 16))
    assert Pascal5i(root, pool="train").fold_image_ids(0) == ("2007_000032", "2007_000039", "2007_000063")
    assert Pascal5i(root, pool="no-novel").fold_image_ids(0) == ("2007_000063",)
    assert Pascal5i(root, pool="no-novel").fold_image_ids(3) == ("2007_000032", "2007_000063")
    assert Pascal5i(root, pool="trainaug").fold_classes(0) == (1, 2, 3, 4, 5)


def test_the_published_train_pairs_of_a_fold_are_those_of_the_other_folds() -> None:
    data = Pascal5i.__new__(Pascal5i)
    data._pool = POOLS["train-oslsm"]
    data.__dict__["_ids"] = voc_ids("trainaug")
    assert [len(data.pairs(fold) or ()) for fold in range(4)] == [11394, 10255, 7797, 11594]  # counted by others


def test_no_data_at_the_root_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no PASCAL VOC 2012 at .*VOCdevkit/VOC2012.*--root"):
        Pascal5i(tmp_path)


def test_a_listed_image_that_is_absent_is_named(small_voc: Path, tmp_path: Path) -> None:
    for path in (small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"2007_\d+\.jpg: expected the image of 2007_\d+, which the image list names"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")
    assert not (tmp_path / "bank.h5").exists()


def test_a_listed_mask_that_is_absent_is_named(small_voc: Path, tmp_path: Path) -> None:
    (masks_of(small_voc) / "2007_001000.png").unlink()
    with pytest.raises(DataError, match=r"2007_001000\.png: expected the mask"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")


def test_an_image_of_another_size_than_its_mask_is_refused(small_voc: Path, tmp_path: Path) -> None:
    for path in (small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        Image.new("RGB", (64, 50)).save(path)
    with pytest.raises(DataError, match="image of 50 x 64 and a mask of 48 x 64"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")


def test_a_colour_mask_is_refused(small_voc: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (128, 0, 0)).save(masks_of(small_voc) / "2007_002003.png")
    with pytest.raises(DataError, match=r"2007_002003.*palette or grey PNG.*found mode RGB"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")


def test_a_truncated_photograph_is_refused(small_voc: Path, tmp_path: Path) -> None:
    for path in (small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"image of 2007_\d+: expected a readable JPEG or PNG.*truncated"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")


def test_a_truncated_mask_is_refused(small_voc: Path, tmp_path: Path) -> None:
    path = masks_of(small_voc) / "2007_002003.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="mask of 2007_002003: expected a readable PNG mask"):
        generate(Pascal5i(small_voc), SMALL, tmp_path / "bank.h5")


def test_a_list_that_names_an_image_twice_is_refused(small_voc: Path) -> None:
    path = small_voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.write_text("2007_001000\n2007_001000\n")
    with pytest.raises(DataError, match="none twice"):
        Pascal5i(small_voc).image_ids()
