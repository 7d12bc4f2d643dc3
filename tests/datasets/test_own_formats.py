"""Exports of annotation tools, written here of one scene, are read as that scene."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import own_trees
import pytest
from command_line import fssbench, refused
from PIL import Image

from fssbench.datasets.base import layers
from fssbench.datasets.lists import read_list
from fssbench.datasets.own.adopt import adopt
from fssbench.datasets.own.dataset import Folder
from fssbench.datasets.own.layouts import _tail
from fssbench.datasets.registry import open_dataset
from fssbench.datasets.shapes5i import Shapes5i
from fssbench.errors import DataError

UNNAMED = {"class-1": "spoon", "class-2": "tea cup", "object": "tea cup"}  # what files cannot say
ALONE = {"one_class": ("tea cup",)}


def adopted(kind: str, tmp_path: Path) -> Folder:
    own_trees.TREES[kind](tmp_path / "own")
    (tmp_path / "d.toml").write_text(adopt(tmp_path / "own", tmp_path / "d.toml").text, encoding="utf-8")
    return Folder(tmp_path / "d.toml")


@pytest.mark.parametrize("kind", own_trees.TREES)
def test_adopt_reads_an_export_as_the_scene_it_was_made_of(kind: str, tmp_path: Path) -> None:
    before = sorted(own_tree_files(tmp_path / "own", kind))
    data = adopted(kind, tmp_path)
    assert sorted(p for p in (tmp_path / "own").rglob("*")) == before  # nothing is written beside the user's files
    names = {UNNAMED.get(name, name): number for number, name in data.class_names.items()}
    assert sorted(names) == sorted(ALONE.get(kind, own_trees.CLASSES))
    assert len(data.image_ids()) == len(own_trees.SCENE)
    for image_id in data.image_ids():
        image = next(name for name in own_trees.SCENE if name in image_id)
        for name, number in names.items():
            wanted = own_trees.truth(image, name)
            if kind == "yolo" and image == "shelf 6":
                wanted[:] = False
            np.testing.assert_array_equal(layers(data, image_id).mask(number) == 1, wanted, err_msg=image_id)


def test_without_the_package_that_draws_outlines_adopt_says_so_and_doctor_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)  # as where it is not installed
    own_trees.coco(tmp_path / "own")
    toml = tmp_path / "d.toml"
    assert "pip install 'fssbench[coco]'" in fssbench("adopt", tmp_path / "own", "--out", toml).out
    assert refused("doctor", toml).startswith("error: outlines are drawn by the package pycocotools")


def own_tree_files(root: Path, kind: str) -> list[Path]:
    own_trees.TREES[kind](root)
    return list(root.rglob("*"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("coco", "box of spoon without a mask, left out"),
        ("coco", "outline of fewer than 3 points of spoon without a mask, left out"),
        ("coco", "a class of the annotations that no object has"),
        ("cvat_xml", "box of spoon without a mask, left out"),
        ("labelme", "point of spoon without a mask, left out"),
        ("yolo", "an image without a label file, which in this format means: no object"),
        ("label_maps", "in the masks background is 0, and void is 255"),
    ],
)
def test_what_is_left_out_is_said(kind: str, said: str, tmp_path: Path) -> None:
    assert said in adopted(kind, tmp_path).remarks


def test_own_categories_never_get_published_names(tmp_path: Path) -> None:
    assert "person" not in adopted("coco", tmp_path).class_names.values()
    with pytest.raises(DataError, match="expected COCO's 80 categories"):
        root = tmp_path / "coco"
        (root / "annotations").mkdir(parents=True)
        content = (tmp_path / "own" / "train" / "_annotations.coco.json").read_text()
        numbered = json.loads(content.replace('"shelf ', '"'))
        for entry in (*numbered["images"], *numbered["annotations"]):
            entry["id"] = 1 if isinstance(entry["id"], str) and not entry["id"].isdigit() else entry["id"]
        (root / "annotations" / "instances_val2014.json").write_text(json.dumps(numbered))
        open_dataset("coco20i", root).image_ids()


@pytest.mark.parametrize("images", ["train", "images/train", "images"])
def test_cocos_own_layout_needs_no_more_than_its_format(images: str, tmp_path: Path) -> None:
    root = tmp_path / "own"
    own_trees.coco(root)
    (root / "annotations").mkdir()
    (root / "train" / "_annotations.coco.json").rename(root / "annotations" / "instances_train.json")
    (root / "annotations" / "captions_train.json").write_text("{}")
    (root / "train").rename(root / "pictures")
    (root / images).parent.mkdir(exist_ok=True)
    (root / "pictures").rename(root / images)
    (root / "dataset.toml").write_text('format = "coco"\n')
    data = Folder(root)
    assert len(data.image_ids()) == len(own_trees.SCENE)
    np.testing.assert_array_equal(layers(data, "shelf 2.jpg").mask(2) == 1, own_trees.truth("shelf 2", "tea cup"))
    (root / "annotations" / "instances_val.json").write_text("{}")
    with pytest.raises(DataError, match=r"found 2: instances_train\.json, instances_val\.json\. Name one, annotations"):
        Folder(root).image_ids()


def test_objects_of_two_classes_may_share_pixels(tmp_path: Path) -> None:
    root = tmp_path / "own"
    own_trees.coco(root)
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    extra = {"id": 9, "image_id": "shelf 2", "category_id": 1, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
    path.write_text(json.dumps({**content, "annotations": [*content["annotations"], extra]}))
    (root / "dataset.toml").write_text('format = "coco"\nannotations = "train/_annotations.coco.json"\n')
    found = layers(Folder(root), "shelf 2.jpg")
    np.testing.assert_array_equal(found.mask(2) == 1, own_trees.truth("shelf 2", "tea cup"))
    assert (found.mask(1)[:20, :20] == 1).all()


def test_a_mask_of_another_size_than_its_image_is_refused_with_the_annotation(tmp_path: Path) -> None:
    root = tmp_path / "own"
    own_trees.coco(root)
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = {"size": [5, 5], "counts": [0, 25]}
    path.write_text(json.dumps(content))
    (root / "dataset.toml").write_text('format = "coco"\nannotations = "train/_annotations.coco.json"\n')
    with pytest.raises(DataError, match=r"shelf 0.*expected a mask of tea cup of 48 x 64 px, found a run-length mask"):
        layers(Folder(root), "shelf 0.jpg")


@pytest.mark.parametrize("size", [(-(1 << 63), 64), (48, 1 << 31), (0, 64)])
def test_an_image_of_an_impossible_size_is_refused_before_c_code_sees_it(size: tuple[int, int], tmp_path: Path) -> None:
    root = tmp_path / "own"
    own_trees.coco(root)
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["images"][0].update(height=size[0], width=size[1])
    path.write_text(json.dumps(content))
    (root / "dataset.toml").write_text('format = "coco"\nannotations = "train/_annotations.coco.json"\n')
    with pytest.raises(DataError, match="expected the size of shelf 0"):
        Folder(root).image_ids()


def test_linked_folders_of_images_are_read(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path / "away")
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "more").symlink_to(tmp_path / "away" / "images")
    (tmp_path / "own" / "masks").symlink_to(tmp_path / "away" / "masks")
    (tmp_path / "own" / "dataset.toml").write_text('images = "images/more"\n[classes]\nspoon = 1\n"tea cup" = 2\n')
    assert len(Folder(tmp_path / "own").image_ids()) == len(own_trees.SCENE)


def test_a_data_set_is_named_as_its_folder_is_called_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_trees.label_maps(tmp_path / "export_0417")
    (tmp_path / "shelves").symlink_to(tmp_path / "export_0417")
    assert 'name = "shelves"' in adopt(tmp_path / "shelves", tmp_path / "d.toml").text
    monkeypatch.chdir(tmp_path / "export_0417")
    assert 'name = "export_0417"' in adopt(Path(), tmp_path / "d.toml").text
    with pytest.raises(DataError, match=r"no data set at shelf\.toml: expected shelf\.toml, which"):
        Folder(Path("shelf.toml"))


MASKS = 'format = "label-map"\n'


@pytest.mark.parametrize(
    ("toml", "values", "right"),
    [
        ('background = []\nvoid = 11\n[classes]\nsky = 0\ncar = 3\n', [0, 3, 11], [1, 2, 255]),
        ('void = 0\n[classes]\nwall = 1\nlamp = 3\n', [0, 1, 3], [255, 1, 3]),
        ("[classes]\nwall = 1\nlamp = 3\n", [0, 1, 255], [0, 1, 255]),
        ('void = []\nbackground = [0, 9]\n[classes]\ncell = 255\n', [0, 9, 255], [0, 0, 255]),
    ],
)  # fmt: skip
def test_void_background_and_class_values_are_what_the_description_says(
    toml: str, values: list[int], right: list[int], tmp_path: Path
) -> None:
    row = np.repeat(np.array(values, np.uint8), 4)[None].repeat(6, axis=0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(row).save(tmp_path / folder / "a.png")
    (tmp_path / "dataset.toml").write_text(MASKS + toml)
    (labels,) = layers(Folder(tmp_path), "a").maps.values()
    assert labels[0, ::4].tolist() == right


def test_values_without_a_name_are_refused_whoever_reads_them(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    (tmp_path / "dataset.toml").write_text("[classes]\nspoon = 1\n")
    with pytest.raises(DataError, match=r"expected values that dataset\.toml names \(spoon = 1\), found 2"):
        layers(Folder(tmp_path), "shelf 0")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([0, 0, 0, 200, 0, 0], [0, 0, 0, 0, 200, 0], "index 1 as #00c800 here and as #c80000"),
        ([200, 0, 0, 0, 0, 0], [200, 0, 0, 0, 0, 0], "expected black for index 0"),
    ],
)
def test_palettes_that_swap_classes_are_refused(first: list[int], second: list[int], said: str, tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    for name, palette in (("shelf 0", first), ("shelf 1", second)):
        mask = Image.fromarray(own_trees.truth(name, "spoon").astype(np.uint8))
        mask.putpalette(palette)
        mask.save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "dataset.toml").write_text('[classes]\nspoon = 1\n"tea cup" = 2\n')
    data = Folder(tmp_path)
    with pytest.raises(DataError, match=said):
        [layers(data, image_id) for image_id in ("shelf 0", "shelf 1")]


def test_by_colour_a_swapped_palette_is_read_right(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    for name in own_trees.SCENE:
        mask = Image.fromarray(1 - own_trees.truth(name, "spoon").astype(np.uint8))
        mask.putpalette([200, 0, 0, 0, 0, 0])
        mask.save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "dataset.toml").write_text('background = "#000000"\n[classes]\nspoon = "#c80000"\n')
    found = layers(Folder(tmp_path), "shelf 3").mask(1)
    np.testing.assert_array_equal(found == 1, own_trees.truth("shelf 3", "spoon"))


def test_a_soft_mask_is_cut_at_half_or_at_the_threshold(tmp_path: Path) -> None:
    soft = np.array([[0, 60, 127, 128, 200, 255]], np.uint8).repeat(6, axis=0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(soft).save(tmp_path / folder / "a.png")
    for line, count in (("", 3), ("threshold = 60\n", 5), ("threshold = 201\n", 1)):
        (tmp_path / "dataset.toml").write_text(f'format = "binary"\n{line}classes = ["polyp"]\n')
        assert layers(Folder(tmp_path), "a").areas == {1: 6 * count}


def test_a_misspelt_class_folder_is_told(tmp_path: Path) -> None:
    own_trees.class_folders(tmp_path)
    (tmp_path / "masks" / "spoon").rename(tmp_path / "masks" / "Spoon")
    (tmp_path / "dataset.toml").write_text('format = "binary"\nclasses = ["spoon", "tea cup"]\n')
    assert "a mask of 'Spoon', which is no class of dataset.toml: left out" in Folder(tmp_path).remarks


def test_tiff_and_gif_go_into_a_bank_as_png_of_the_same_pixels(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    with Image.open(tmp_path / "images" / "shelf 0.jpg") as image:
        image.save(tmp_path / "images" / "shelf 0.tif", compression="tiff_lzw")
        pixels = np.asarray(image)
    (tmp_path / "images" / "shelf 0.jpg").unlink()
    (tmp_path / "dataset.toml").write_text('[classes]\nspoon = 1\n"tea cup" = 2\n')
    encoded = Folder(tmp_path).image_bytes("shelf 0")
    assert encoded.startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)


def test_two_data_sets_of_ones_own_have_two_names(tmp_path: Path) -> None:
    for name in ("lab a", "pascal5i"):
        own_trees.label_maps(tmp_path / name)
        (tmp_path / name / "dataset.toml").write_text('[classes]\nspoon = 1\n"tea cup" = 2\n')
    assert Folder(tmp_path / "lab a").name == "lab-a"
    assert Folder(tmp_path / "pascal5i").name == "own-pascal5i"  # never a published one
    (tmp_path / "lab a" / "dataset.toml").write_text('name = "coco20i"\n[classes]\nspoon = 1\n')
    with pytest.raises(DataError, match="a published data set's"):
        Folder(tmp_path / "lab a")


IDS = ("day/2007_000032", "night/2007_000032", "2007_000039", "my image 1")


@pytest.mark.parametrize(
    ("text", "images", "pairs"),
    [
        ("2007_000039\n\nmy image 1\n", ("2007_000039", "my image 1"), ()),
        ("JPEGImages/2007_000039.jpg SegmentationClassAug/2007_000039.png", ("2007_000039",), ()),
        ("/home/kim/set/day/2007_000032.png\t/home/kim/set/dayannot/2007_000032.png\n", ("day/2007_000032",), ()),
        ("my image 1.jpg my image 1.png\r\n", ("my image 1",), ()),
        ("2007_000039__05\r\nmy image 1__12\r\n2007_000039__07", ("2007_000039", "my image 1"),
         (("2007_000039", 5), ("my image 1", 12), ("2007_000039", 7))),
        ("night\\2007_000032.jpg\n", ("night/2007_000032",), ()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_the_field_are_read_whatever_wrote_them(
    text: str, images: tuple[str, ...], pairs: tuple[tuple[str, int], ...], encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    found = read_list(tmp_path / "list.txt", IDS)
    assert (found.images, found.pairs) == (images, pairs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2007_000039\n2009_004711__08\n", r"found no image for 2009_004711 \(line 2\)"),
        ("2007_000032\n", r"line 1: expected one image, found day/2007_000032, night/2007_000032"),
        ("2007_000039\n2007_000039\n", "none twice"),
        ("2007_000039__05\nmy image 1\n", "expected one form of line"),
        ("", "found 0 names"),
    ],
)
def test_a_list_that_names_no_image_or_several_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        read_list(tmp_path / "list.txt", IDS)


def test_a_macs_letters_are_the_same_letters(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    (tmp_path / "images" / "shelf 0.jpg").rename(tmp_path / "images" / unicodedata.normalize("NFD", "Küche.jpg"))
    (tmp_path / "masks" / "shelf 0.png").rename(tmp_path / "masks" / "Küche.png")
    (tmp_path / "dataset.toml").write_text('[classes]\nspoon = 1\n"tea cup" = 2\n')
    (tmp_path / "some.txt").write_text(unicodedata.normalize("NFD", "Küche\n"))
    data = open_dataset("folder", tmp_path, pool=str(tmp_path / "some.txt"))
    assert data.image_ids() == ("Küche",)
    assert layers(data, "Küche").areas[1] > 0


def test_a_list_cuts_down_any_data_set_and_pairs_are_the_folds_own(small_voc: Path, tmp_path: Path) -> None:
    whole = open_dataset("pascal5i", small_voc)
    ids = whole.image_ids()[:3]
    (tmp_path / "mine.txt").write_text(
        "".join(f"VOC2012/JPEGImages/{i}.jpg SegmentationClassAug/{i}.png\n" for i in ids)
    )
    data = open_dataset("pascal5i", small_voc, pool=str(tmp_path / "mine.txt"))
    assert (data.image_ids(), data.pool, data.pairs(0)) == (tuple(ids), "own-mine", None)
    (tmp_path / "pairs.txt").write_text(f"{ids[0]}__01\n{ids[1]}__06\n")
    data = open_dataset("pascal5i", small_voc, pool=str(tmp_path / "pairs.txt"))
    assert (data.pairs(0), data.pairs(1), data.fold_image_ids(1)) == (((ids[0], 1),), ((ids[1], 6),), (ids[1],))


def test_a_list_may_name_images_of_several_pools(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("train-02-00\ntest-01-00\n")
    data = open_dataset("shapes5i", pool=str(tmp_path / "mine.txt"))
    assert data.image_ids() == ("train-02-00", "test-01-00")
    assert data.fold_classes(1) == (6, 7, 8, 9, 10)  # held out, whatever the pool
    part = data.part(["train-02-00"])
    assert part.image_bytes("train-02-00") == Shapes5i(pool="train").image_bytes("train-02-00")
    assert layers(data, "test-01-00").areas == layers(Shapes5i(), "test-01-00").areas
    (tmp_path / "mine.txt").write_text("train-02-00\ntest-99-00\n")
    with pytest.raises(DataError, match=r"found no image for test-99-00 \(line 2\)"):
        open_dataset("shapes5i", pool=str(tmp_path / "mine.txt"))


def test_a_list_may_name_images_that_the_default_list_of_a_description_has_not(tmp_path: Path) -> None:
    own_trees.label_maps(tmp_path)
    (tmp_path / "dataset.toml").write_text('[classes]\nspoon = 1\n"tea cup" = 2\n[lists]\ndefault = "a.txt"\n')
    (tmp_path / "a.txt").write_text("shelf 0\n")
    (tmp_path / "b.txt").write_text("shelf 5\n")
    assert open_dataset("folder", tmp_path, pool=str(tmp_path / "b.txt")).image_ids() == ("shelf 5",)


@pytest.mark.parametrize("pool", ["voc-val", "trainaug"])
def test_a_list_may_name_any_image_of_pascal(pool: str, tmp_path: Path) -> None:
    (tmp_path / "VOC2012" / "SegmentationClassAug").mkdir(parents=True)
    image = open_dataset("pascal5i", tmp_path, pool=pool).image_ids()[7]
    (tmp_path / "mine.txt").write_text(f"{image}.jpg\n")
    assert open_dataset("pascal5i", tmp_path, pool=str(tmp_path / "mine.txt")).image_ids() == (image,)


def test_the_common_end_of_names_is_found_where_one_name_ends_another() -> None:
    assert _tail(["1_mask", "11_mask"]) == "_mask"  # every letter of the shorter name is the longer one's too
    assert _tail(["a", "b"]) == ""
