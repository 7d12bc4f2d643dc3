"""Examining data roots."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.cli import main
from fssbench.datasets.folder import Folder
from fssbench.doctor import Health, examine

TOML = 'min_area = 20\n[classes]\ncat = 1\ndog = 2\n[folds]\n0 = ["cat"]\n1 = ["dog"]\n'


def labels() -> np.ndarray:
    found = np.zeros((10, 12), np.uint8)
    found[:5, :5], found[6:, 6:], found[5, :] = 1, 2, 255
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight images of 10 x 12 px that show both classes well."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dataset.toml").write_text(TOML)
    noise = np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8)
    for i in range(8):
        Image.fromarray(noise).save(tmp_path / "images" / f"{i}.jpg")
        Image.fromarray(labels()).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def health_of(root: Path, quick: bool = False) -> Health:
    return examine("folder", lambda: Folder(root), lambda items, what: items, quick=quick)


def no_image(root: Path) -> None:
    (root / "images" / "3.jpg").write_bytes(b"")


def truncated_image(root: Path) -> None:
    path = root / "images" / "3.jpg"
    path.write_bytes(path.read_bytes()[:-60])


def colour_mask(root: Path) -> None:
    Image.new("RGB", (12, 10)).save(root / "masks" / "3.png")


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
    assert health.notes == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_image, "readable JPEG"),
        (truncated_image, "do not decode"),
        (colour_mask, "mode RGB"),
        (foreign_value, "found the values 77"),
        (other_size, "10 x 12 and 10 x 10"),
        (truncated_mask, "PNG mask"),
    ],
)
def test_each_kind_of_damage_is_found_in_the_image_that_has_it(
    root: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(root)
    health = health_of(root)
    assert [finding.image_id for finding in health.findings] == ["3"]
    assert said in health.findings[0].problem


def test_every_damaged_file_is_found_not_only_the_first(root: Path) -> None:
    truncated_image(root)
    (root / "images" / "5.jpg").write_bytes(b"no image")
    Image.new("RGB", (12, 10)).save(root / "masks" / "6.png")
    assert sorted(finding.image_id for finding in health_of(root).findings) == ["3", "5", "6"]


def test_the_quick_look_overlooks_truncation_but_not_absence_or_size(root: Path) -> None:
    truncated_image(root)
    assert health_of(root, quick=True).healthy
    no_image(root)
    assert [finding.image_id for finding in health_of(root, quick=True).findings] == ["3"]


def test_a_class_with_fewer_images_than_five_shots_need_is_noted_with_its_fold(root: Path) -> None:
    for i in range(3):
        mask = labels()
        mask[mask == 2] = 0
        mask[9, 9] = 2  # one pixel does not count: the data set asks for 20
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    health = health_of(root)
    assert health.healthy
    assert health.class_images == {"cat": 8, "dog": 5}
    assert len(health.notes) == 1
    assert "fold 1" in health.notes[0] and "dog (5)" in health.notes[0]


def test_data_that_is_not_there_at_all_is_one_finding(tmp_path: Path) -> None:
    health = health_of(tmp_path)
    assert len(health.findings) == 1
    assert "dataset.toml" in health.findings[0].problem


def test_a_subset_of_a_published_list_is_noted(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\n")
    Image.new("RGB", (60, 50)).save(voc / "JPEGImages" / "2007_000033.jpg")
    Image.new("P", (60, 50)).save(voc / "SegmentationClass" / "2007_000033.png")
    from fssbench.datasets.pascal5i import Pascal5i

    health = examine("pascal5i", lambda: Pascal5i(tmp_path), lambda items, what: items)
    assert health.healthy
    assert any("1 images, where the complete list voc-val has 1449" in note for note in health.notes)


@pytest.mark.parametrize(("damage", "status"), [(lambda root: None, 0), (colour_mask, 1)])
def test_the_command_says_so_by_its_exit_status_and_as_json(
    root: Path, damage: Callable[[Path], None], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root)
    with pytest.raises(SystemExit) as left:
        main(["doctor", "folder", "--root", str(root), "--json"])
    assert left.value.code == status
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] == (status == 0)
    assert report["images"] == 8
    assert len(report["findings"]) == status


def test_the_command_prints_at_most_twenty_findings_in_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        Image.new("RGB", (12, 10)).save(root / "images" / f"x{i}.png")
        Image.new("RGB", (12, 10)).save(root / "masks" / f"x{i}.png")
    with pytest.raises(SystemExit):
        main(["doctor", "folder", "--root", str(root)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("wrong: ") for line in lines) == 20
    assert "... and 10 more (--json lists all)" in lines
    assert lines[-1] == "30 things are wrong"
