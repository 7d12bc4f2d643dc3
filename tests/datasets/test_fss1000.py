"""FSS-1000, on folders made here."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.datasets.base import label_map, layers
from fssbench.datasets.fss1000 import Fss1000, published_classes
from fssbench.datasets.registry import open_dataset
from fssbench.errors import DataError, UsageError

SHARED = Path(os.environ.get("FSSBENCH_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data").parent


def make_root(root: Path, pool: str = "test") -> Path:
    for name in published_classes(pool):
        (root / name).mkdir(parents=True)
    return root


def put_mask(root: Path, mask: Image.Image, name: str = "abacus") -> None:
    mask.save(root / name / "1.png")


def values_of(dataset: Fss1000, image_id: str) -> np.ndarray:
    return label_map(dataset.mask(image_id), image_id)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.fixture
def first(root: Path) -> str:
    return published_classes("test")[0]


def half(value: int) -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[:, :4] = value
    return mask


def test_the_lists_are_240_240_and_520_classes_without_overlap() -> None:
    lists = [published_classes(pool) for pool in ("test", "val", "train")]
    assert [len(names) for names in lists] == [240, 240, 520]
    assert len({name for names in lists for name in names}) == 1000


@pytest.mark.parametrize(
    ("pool", "file"), [("test", "test"), ("test", "hsnet_test"), ("val", "hsnet_val"), ("train", "hsnet_trn")]
)
def test_the_lists_are_the_published_ones_in_their_order(pool: str, file: str) -> None:
    path = SHARED / "splits" / f"fss1000_{file}.txt"
    if not path.is_file():
        pytest.skip(f"the published list is not at {path}")
    assert published_classes(pool) == tuple(path.read_text().split())


def test_each_class_has_ten_images_and_all_are_in_one_fold(root: Path, first: str) -> None:
    dataset = Fss1000(root)
    assert len(dataset.image_ids()) == 2400
    assert dataset.image_ids()[:2] == (f"{first}/1", f"{first}/2")
    assert len(dataset.folds) == 1
    assert len(dataset.folds[0]) == 240


def test_class_ids_of_the_three_lists_do_not_collide(tmp_path: Path) -> None:
    ids = [set(Fss1000(make_root(tmp_path / pool, pool), pool=pool).class_names) for pool in ("test", "val", "train")]
    assert len(set.union(*ids)) == 1000


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_masks_of_0_and_1_and_of_0_and_255_read_the_same(root: Path, first: str, value: int, mode: str) -> None:
    mask = Image.fromarray(half(value))
    if mode == "P":
        mask = Image.fromarray(half(value), "P") if value == 1 else mask.convert("P")
    elif mode != "L":
        mask = Image.merge(mode, [mask] * len(mode))
    put_mask(root, mask, first)
    np.testing.assert_array_equal(values_of(Fss1000(root), f"{first}/1"), half(1))


def test_blurred_edges_are_cut_at_half(root: Path, first: str) -> None:
    put_mask(root, Image.fromarray(np.array([[0, 20, 127, 128, 240, 255]], np.uint8)), first)
    assert values_of(Fss1000(root), f"{first}/1").tolist() == [[0, 0, 0, 1, 1, 1]]


def test_a_clean_mask_keeps_its_own_bytes(root: Path, first: str) -> None:
    put_mask(root, Image.fromarray(half(255)), first)
    assert Fss1000(root).mask(f"{first}/1").encoded == (root / first / "1.png").read_bytes()


def test_classes_beyond_254_keep_their_number(tmp_path: Path) -> None:
    make_root(tmp_path, "train")
    dataset = Fss1000(tmp_path, pool="train")
    name = published_classes("train")[-1]
    put_mask(tmp_path, Image.fromarray(half(1)), name)
    assert set(np.unique(values_of(dataset, f"{name}/1"))) == {0, 1000}


def test_the_folder_inside_the_authors_archive_is_found(tmp_path: Path) -> None:
    make_root(tmp_path / "fewshot_data" / "fewshot_data")
    assert Fss1000(tmp_path).root == tmp_path / "fewshot_data" / "fewshot_data"


def test_no_data_at_the_root_says_how_the_folder_must_look(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.jpg to 10\.jpg.*fssbench download fss1000"):
        Fss1000(tmp_path)


def test_missing_classes_are_counted_and_named(root: Path, first: str) -> None:
    (root / first).rmdir()
    with pytest.raises(DataError, match=f"1 missing: {first}.*--lists"):
        Fss1000(root).fold_image_ids(0)


def test_a_list_may_name_the_classes_that_are_there_of_any_pool(tmp_path: Path) -> None:
    tested, learned = published_classes("test")[3], published_classes("train")[0]
    for name in (tested, learned):
        (tmp_path / name).mkdir()
        put_mask(tmp_path, Image.fromarray(half(1)), name)
    (tmp_path / "part.txt").write_text(f"{tested}/1.jpg\n{learned}/1.jpg {learned}/1.png\n")
    data = open_dataset("fss1000", tmp_path, pool=str(tmp_path / "part.txt"))
    assert data.fold_image_ids(0) == (f"{tested}/1", f"{learned}/1")
    numbers = {name: number for number, name in data.class_names.items()}
    assert {numbers[tested], numbers[learned]} <= set(data.fold_classes(0))
    for name in (tested, learned):
        assert layers(data, f"{name}/1").areas == {numbers[name]: 24}


def test_a_missing_image_is_named(root: Path, first: str) -> None:
    with pytest.raises(DataError, match=r"3\.jpg"):
        Fss1000(root).image_bytes(f"{first}/3")


def test_a_truncated_mask_is_named(root: Path, first: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(file, format="PNG")
    (root / first / "1.png").write_bytes(file.getvalue()[:-600])
    with pytest.raises(DataError, match=r"1\.png"):
        Fss1000(root).mask(f"{first}/1")


def test_an_unknown_list_is_refused_with_the_known_ones(root: Path) -> None:
    with pytest.raises(UsageError, match="test, train, val"):
        Fss1000(root, pool="tset")
