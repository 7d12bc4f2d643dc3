"""A user's own images and masks."""

from pathlib import Path

import numpy as np
import pytest
from trees import noise, photo, save

from fssbench.banks.generate import Request, make_plan
from fssbench.datasets.base import label_map, layers
from fssbench.datasets.own.dataset import Folder
from fssbench.errors import DataError, ProtocolError, UsageError
from fssbench.protocols import FSSBENCH

PLAIN = '[classes]\ncat = 1\n"traffic light" = 7\n'
SIZE = (8, 6)  # width, height


def columns(*values: int) -> np.ndarray:
    """6 x 8 px, two columns for each value."""
    return np.repeat(np.array([values], np.uint8), 2, axis=1).repeat(6, axis=0)


def make(root: Path, toml: str = PLAIN) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.toml").write_text(toml)
    for name in ("b.png", "a.jpg", "c.JPEG"):
        photo(root / "images" / name, *SIZE[::-1])
    return root


def with_label_maps(root: Path, toml: str = PLAIN) -> Path:
    make(root, toml)
    for name in "abc":
        save(root / "masks" / f"{name}.png", columns(0, 1, 7, 255))
    return root


def with_binary_masks(root: Path) -> Path:
    make(root, 'format = "binary"\n' + PLAIN)
    for name in "abc":
        save(root / "masks" / "cat" / f"{name}.png", columns(0, 255, 255, 0))
    save(root / "masks" / "traffic light" / "a.png", columns(0, 0, 1, 1))
    return root


def test_label_maps_are_read_as_they_are_and_images_come_by_name(tmp_path: Path) -> None:
    dataset = Folder(with_label_maps(tmp_path))
    assert dataset.image_ids() == ("a", "b", "c")
    assert dataset.class_names == {1: "cat", 7: "traffic light"}
    np.testing.assert_array_equal(label_map(dataset.mask("a"), "a"), columns(0, 1, 7, 255))
    assert dataset.image_bytes("c") == (tmp_path / "images" / "c.JPEG").read_bytes()


def test_without_folds_one_fold_has_all_classes(tmp_path: Path) -> None:
    assert list(Folder(with_label_maps(tmp_path)).folds) == [(1, 7)]


def test_folds_hold_out_the_classes_they_name(tmp_path: Path) -> None:
    folds = '[folds]\n0 = ["traffic light"]\n1 = ["cat"]\n'
    assert list(Folder(with_label_maps(tmp_path, PLAIN + folds)).folds) == [(7,), (1,)]


def test_binary_masks_stay_one_a_class_and_share_pixels(tmp_path: Path) -> None:
    dataset = Folder(with_binary_masks(tmp_path))
    cat, light = layers(dataset, "a").maps.values()
    np.testing.assert_array_equal(cat, columns(0, 1, 1, 0))
    np.testing.assert_array_equal(light, columns(0, 0, 2, 2))
    assert dict(dataset.class_names) == {1: "cat", 2: "traffic light"}
    np.testing.assert_array_equal(layers(dataset, "b").mask(2), columns(0, 0, 0, 0))


def test_the_root_may_be_the_toml_file_itself(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path)
    (root / "dataset.toml").rename(root / "mine.toml")
    assert len(Folder(root / "mine.toml").image_ids()) == 3


def test_lists_choose_images_in_their_order_with_or_without_suffix(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path, PLAIN + '[lists]\ntrain = "train.txt"\n')
    (root / "train.txt").write_text("c.JPEG\r\n\na\n")
    assert Folder(root, pool="train").image_ids() == ("c", "a")
    assert Folder(root).image_ids() == ("a", "b", "c")


def test_a_list_named_default_is_used_without_being_asked_for(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path, PLAIN + '[lists]\ndefault = "some.txt"\n')
    (root / "some.txt").write_text("b\n")
    (root / "masks" / "a.png").unlink()  # not listed, not needed
    assert Folder(root).image_ids() == ("b",)


def test_images_in_folders_of_folders_keep_their_path_as_name(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path)
    photo(root / "images" / "day" / "a.png")
    save(root / "masks" / "day" / "a.png", columns(1, 1, 1, 1))
    assert "day/a" in Folder(root).image_ids()


def test_the_area_filter_of_the_toml_is_the_data_sets(tmp_path: Path) -> None:
    assert Folder(with_label_maps(tmp_path, "min_area = 12\n" + PLAIN)).min_area == 12
    assert Folder(with_label_maps(tmp_path / "2")).min_area is None


def test_a_missing_description_shows_the_least_that_it_must_say(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.toml.*(?s:.*)\[classes\]"):
        Folder(tmp_path)


def test_images_without_masks_are_counted_and_named_with_the_place_expected(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path)
    (root / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of them: b\. Masks are expected at .*masks/\{image\}"):
        Folder(root).image_ids()


def test_an_image_without_any_binary_mask_is_named(tmp_path: Path) -> None:
    root = with_binary_masks(tmp_path)
    (root / "masks" / "cat" / "c.png").unlink()
    with pytest.raises(DataError, match=r"1 of them: c\..*masks/\{class\}/\{image\}"):
        Folder(root).image_ids()


def test_binary_masks_of_different_sizes_are_named(tmp_path: Path) -> None:
    root = with_binary_masks(tmp_path)
    save(root / "masks" / "traffic light" / "a.png", np.ones((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"a: expected masks of one size, found 5 x 5, 6 x 8"):
        Folder(root).mask("a")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path)
    photo(root / "images" / "a.png")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png"):
        Folder(root).image_ids()


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(PLAIN)
    with pytest.raises(DataError, match="images"):
        Folder(tmp_path).image_ids()
    (tmp_path / "images" / "x.heic").parent.mkdir()
    (tmp_path / "images" / "x.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"\.jpg"):
        Folder(tmp_path).image_ids()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[classes", "expected TOML"),
        ("", "classes"),
        ("[classes]\n", "classes"),
        ("[classes]\ncat = 0\n", "0 is a class and background"),
        ("[classes]\ncat = 255\n", "255 is void"),
        ('[classes]\ncat = "1"\n', "a colour '#rrggbb'"),
        ("[classes]\ncat = 1\ndog = 1\n", "twice"),
        ('[classes]\n"../x" = 1\n', "folders"),
        ('layout = "binary"\n' + PLAIN, "called `format`"),
        ('format = "cocoo"\n' + PLAIN, "did you mean 'coco'"),
        ("colour = 3\n" + PLAIN, "colour"),
        (PLAIN + '[folds]\n1 = ["cat"]\n', "numbered from 0"),
        (PLAIN + '[folds]\n0 = ["cow"]\n', "'cow'"),
        (PLAIN + '[folds]\n0 = ["cat"]\n1 = ["cat"]\n', "no class in two"),
        (PLAIN + "[folds]\n0 = []\n", "at least one class"),
    ],
)
def test_a_wrong_description_is_refused_with_the_line_at_fault(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Folder(make(tmp_path, toml))


def test_a_list_that_names_an_unknown_image_is_refused(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path, PLAIN + '[lists]\ntrain = "train.txt"\n')
    (root / "train.txt").write_text("a\nzebra\n")
    with pytest.raises(DataError, match="zebra"):
        Folder(root, pool="train").image_ids()


def test_an_unknown_list_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path, PLAIN + '[lists]\ntrain = "train.txt"\n')
    with pytest.raises(UsageError, match="default, train"):
        Folder(root, pool="trian")


def test_a_copy_of_a_picture_is_never_its_query_or_support(tmp_path: Path) -> None:
    root = tmp_path / "own"
    for i in range(5):
        save(root / "images" / f"{i}.png", noise(i, 6, 8))
        save(root / "masks" / f"{i}.png", columns(0, 1, 1, 0))
    save(root / "images" / "other format.bmp", noise(0, 6, 8))  # other bytes, the same mask
    (root / "images" / "other mask.png").write_bytes((root / "images" / "1.png").read_bytes())
    save(root / "masks" / "other format.png", columns(0, 1, 1, 0))
    save(root / "masks" / "other mask.png", columns(0, 1, 0, 0))
    (root / "dataset.toml").write_text("min_area = 1\n[classes]\ncat = 1\n")
    plan = make_plan(Folder(root), Request(FSSBENCH.but(episodes=80, min_area=1), shots=(2,)))
    same = {"other format": "0", "other mask": "1"}
    for query, supports in zip(plan.episodes[0, 2].query, plan.episodes[0, 2].support, strict=True):
        shown = [same.get(plan.image_ids[i], plan.image_ids[i]) for i in (query, *supports.ravel())]
        assert len(set(shown)) == 3
    assert {"other format", "other mask"} <= set(plan.image_ids)


def test_a_fold_that_keeps_no_class_is_left_out_and_noted_if_short_classes_are(tmp_path: Path) -> None:
    root = with_label_maps(tmp_path, PLAIN + '[folds]\n0 = ["cat"]\n1 = ["traffic light"]\n')
    save(root / "masks" / "b.png", columns(0, 1, 0, 0))
    protocol = FSSBENCH.but(episodes=4, min_area=1)
    plan = make_plan(Folder(root), Request(protocol, shots=(2,), skip_short=True))
    assert dict(plan.fold_classes) == {0: (1,)}
    assert "fold 1: traffic light" in plan.note
    with pytest.raises(ProtocolError, match=r"fold 0: expected at least 1 class with 6 images.*fewer --shots"):
        make_plan(Folder(root), Request(protocol, shots=(5,), skip_short=True))
