"""Examining data roots."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench
from PIL import Image
from trees import noise, save

from fssbench.datasets.own.dataset import Folder
from fssbench.doctor import Health, examine, sheet

TOML = 'min_area = 20\n[classes]\ncat = 1\ndog = 2\n[folds]\n0 = ["cat"]\n1 = ["dog"]\n'


def labels() -> np.ndarray:
    found = np.zeros((10, 12), np.uint8)
    found[:5, :5], found[6:, 6:], found[5, :] = 1, 2, 255
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight images of 10 x 12 px that show both classes well."""
    (tmp_path / "dataset.toml").write_text(TOML)
    for i in range(8):
        save(tmp_path / "images" / f"{i}.jpg", noise(i, 10, 12))
        save(tmp_path / "masks" / f"{i}.png", labels())
    return tmp_path


def health_of(root: Path, quick: bool = False) -> Health:
    return examine("folder", lambda: Folder(root), lambda items, what: items, quick=quick)


def no_image(root: Path) -> None:
    (root / "images" / "3.jpg").write_bytes(b"")


def truncated_image(root: Path) -> None:
    path = root / "images" / "3.jpg"
    path.write_bytes(path.read_bytes()[:-60])


def colour_mask(root: Path) -> None:
    Image.new("RGB", (12, 10), (10, 20, 30)).save(root / "masks" / "3.png")


def foreign_value(root: Path) -> None:
    mask = labels()
    mask[0, 0] = 77
    Image.fromarray(mask).save(root / "masks" / "3.png")


def other_size(root: Path) -> None:
    Image.fromarray(labels()[:, :-2]).save(root / "masks" / "3.png")


def truncated_mask(root: Path) -> None:
    path = root / "masks" / "3.png"
    path.write_bytes(path.read_bytes()[:40])


def test_a_sound_data_set_has_no_findings_and_its_images_are_counted(root: Path) -> None:
    health = health_of(root)
    assert health.healthy
    assert health.images == 8
    assert health.class_images == {"cat": 8, "dog": 8}
    assert health.shown == health.class_images
    assert health.share == {"cat": pytest.approx(25 / 120), "dog": pytest.approx(24 / 120)}
    assert health.notes == [
        "void, which is not scored: 96 px, 10.0 % of all",
        "in the masks background is 0, and void is 255",
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_image, "readable JPEG"),
        (truncated_image, "do not decode"),
        (colour_mask, "colours (#0a141e)"),
        (foreign_value, "found 77"),
        (other_size, "10 x 12 and 10 x 10"),
        (truncated_mask, "readable mask"),
    ],
)
def test_each_kind_of_damage_is_found_in_the_image_that_has_it(
    root: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(root)
    health = health_of(root)
    assert [finding.examples for finding in health.findings] == [("3",)]
    assert said in health.findings[0].problem


def test_every_damaged_file_is_found_not_only_the_first(root: Path) -> None:
    truncated_image(root)
    (root / "images" / "5.jpg").write_bytes(b"no image")
    (root / "masks" / "6.png").write_bytes(b"no mask")
    assert sorted(i for finding in health_of(root).findings for i in finding.examples) == ["3", "5", "6"]


def test_the_quick_look_overlooks_truncation_but_not_absence_or_size(root: Path) -> None:
    truncated_image(root)
    assert health_of(root, quick=True).healthy
    no_image(root)
    assert [finding.examples for finding in health_of(root, quick=True).findings] == [("3",)]


def test_a_class_with_fewer_images_than_five_shots_need_is_noted_with_its_fold(root: Path) -> None:
    for i in range(3):
        mask = labels()
        mask[mask == 2] = 0
        mask[9, 9] = 2  # one pixel does not count: the data set asks for 20
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    health = health_of(root)
    assert health.healthy
    assert health.class_images == {"cat": 8, "dog": 5}
    assert "leaves out 3 of 8 images of dog" in health.notes[0] and "1 would keep all" in health.notes[0]
    assert "fold 1" in health.notes[1] and "dog (5)" in health.notes[1]


def test_data_that_is_not_there_at_all_is_one_finding(tmp_path: Path) -> None:
    health = health_of(tmp_path)
    assert len(health.findings) == 1
    assert "dataset.toml" in health.findings[0].problem


def test_whoever_has_the_images_is_told_whether_they_have_the_published_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\n")
    Image.new("RGB", (60, 50)).save(voc / "JPEGImages" / "2007_000033.jpg")
    Image.new("P", (60, 50)).save(voc / "SegmentationClass" / "2007_000033.png")
    from fssbench.datasets.pascal5i import Pascal5i

    health = examine("pascal5i", lambda: Pascal5i(tmp_path), lambda items, what: items)
    assert health.healthy
    told = "not known to be the published split voc-val: 1 of the 1449 images of the published list voc-val"
    assert any(note.startswith(told) for note in health.notes)
    monkeypatch.setattr(Pascal5i, "shortfall", lambda self: "")
    health = examine("pascal5i", lambda: Pascal5i(tmp_path), lambda items, what: items)
    assert any(note.startswith("the published split voc-val: all of it") for note in health.notes)


def test_nothing_is_said_of_a_published_split_where_there_is_none(root: Path) -> None:
    assert not any("published split" in note for note in health_of(root).notes)


@pytest.mark.parametrize(("damage", "status"), [(lambda root: None, 0), (colour_mask, 1)])
def test_the_command_says_so_by_its_exit_status_and_as_json(
    root: Path, damage: Callable[[Path], None], status: int
) -> None:
    damage(root)
    report = json.loads(fssbench("doctor", "folder", "--root", root, "--json", status=status).out)
    assert report["healthy"] == (status == 0)
    assert report["images"] == 8
    assert len(report["findings"]) == status


def test_one_cause_is_one_line_with_a_count_and_three_examples(root: Path) -> None:
    for i in range(30):
        save(root / "images" / f"x{i}.png", noise(100 + i, 10, 12))
        Image.fromarray(labels() + np.uint8(60 + i)).save(root / "masks" / f"x{i}.png")
    lines = fssbench("doctor", "folder", "--root", root, status=1).out.splitlines()
    wrong = [line for line in lines if line.startswith("wrong: ")]
    assert len(wrong) == 1
    assert wrong[0].endswith("[30 images: x0, x1, x10 and 27 more]")
    assert lines[-1] == "1 thing wrong"


def test_the_command_ends_with_the_one_to_go_on_with(root: Path) -> None:
    last = fssbench("doctor", root / "dataset.toml", "--lists", "default").out.splitlines()[-1]
    assert last == f"go on: fssbench generate-episodes {root / 'dataset.toml'} --lists default"
    (root / "dataset.toml").write_text(TOML.replace("min_area = 20\n", ""))  # 2048 px leave nothing of 120
    assert fssbench("doctor", root / "dataset.toml").out.splitlines()[-1].endswith("dataset.toml --min-area 24")
    (root / "dataset.toml").write_text(TOML)
    for left_over, ending in ((3, " --shots 2"), (1, " --shots 1 --skip-short-classes")):
        for i in range(left_over, 8):
            mask = labels()
            mask[mask == 2] = 0
            Image.fromarray(mask).save(root / "masks" / f"{i}.png")
        assert fssbench("doctor", root / "dataset.toml").out.splitlines()[-1].endswith(f"dataset.toml{ending}")


def test_one_picture_under_two_names_is_told_with_both(root: Path) -> None:
    (root / "images" / "copy (1).jpg").write_bytes((root / "images" / "2.jpg").read_bytes())
    with Image.open(root / "images" / "4.jpg") as image:
        image.save(root / "images" / "z.png")
    for name in ("copy (1)", "z"):
        Image.fromarray(labels()).save(root / "masks" / f"{name}.png")
    said = next(note for note in health_of(root).notes if note.startswith("one picture"))
    assert "2 = copy (1) (the same bytes)" in said and "4 = z (the same pixels)" in said
    quick = next(note for note in health_of(root, quick=True).notes if note.startswith("one picture"))
    assert "z" not in quick


def test_masks_of_0_and_255_read_as_label_maps_are_wrong_and_the_way_out_is_named(root: Path) -> None:
    for i in range(8):
        Image.fromarray(np.where(labels() == 1, 255, 0).astype(np.uint8)).save(root / "masks" / f"{i}.png")
    (finding,) = health_of(root).findings
    assert 'format = "binary"' in finding.problem


def test_soft_masks_are_counted_with_what_every_value_above_0_would_add(root: Path) -> None:
    (root / "dataset.toml").write_text('format = "binary"\nmin_area = 1\nclasses = ["polyp"]\n')
    soft = np.zeros((10, 12), np.uint8)
    soft[:4], soft[4] = 255, 90
    for i in range(8):
        Image.fromarray(soft).save(root / "masks" / f"{i}.png")
    health = health_of(root)
    assert health.share["polyp"] == pytest.approx(48 / 120)
    assert any("8 (0, 1, 2 and 5 more); every value above 0 would be 96 px more, 25.0 %" in n for n in health.notes)


def test_the_sheet_shows_masks_in_place(root: Path, tmp_path: Path) -> None:
    picture = np.asarray(sheet(Folder(root)).convert("RGB")).astype(int)
    assert picture.shape[1] > 4 * picture.shape[0] / 3
    fssbench("doctor", "folder", "--root", root, "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (picture.shape[1], picture.shape[0])
