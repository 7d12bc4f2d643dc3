"""COCO-20i, on small COCO files made here."""

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trees import entry, square, write_coco

from fssbench.datasets.coco20i import SPLITS, Coco20i
from fssbench.datasets.decode import decode_mask
from fssbench.errors import DataError, PackageError, UsageError

pytest.importorskip("pycocotools", reason="COCO's masks need the extra fssbench[coco]")

HEIGHT, WIDTH = 20, 30


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths by hand: column by column, background first."""
    flat = mask.ravel(order="F")
    counts, current = [0], 0
    for value in flat:
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def labels_of(dataset: Coco20i, number: int) -> np.ndarray:
    return decode_mask(dataset.mask(f"COCO_val2014_{number:012}"), "a mask")


def region(left: int, top: int, side: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_polygon_becomes_the_pixels_it_encloses(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 1, square(4, 5, 6))]))
    np.testing.assert_array_equal(labels_of(dataset, 1), np.where(region(4, 5, 6), 1, 0))


def test_category_ids_become_class_ids_without_gaps(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 90, square(4, 5, 6)), entry(2, 1, 13, square(20, 5, 6))]))
    labels = labels_of(dataset, 1)
    assert labels[7, 7] == 80  # toothbrush
    assert labels[7, 22] == 12  # stop sign: ids 1..11, then 13
    assert dataset.class_names[80] == "toothbrush"
    assert dataset.class_names[12] == "stop sign"


def test_all_polygons_of_an_object_are_drawn(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 3, square(1, 1, 4) + square(12, 8, 5))]))
    np.testing.assert_array_equal(labels_of(dataset, 1), np.where(region(1, 1, 4) | region(12, 8, 5), 3, 0))


def test_the_later_of_two_overlapping_objects_is_on_top(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(9, 1, 1, square(2, 2, 8)), entry(4, 1, 2, square(6, 6, 8))]))
    expected = np.where(region(6, 6, 8), 2, np.where(region(2, 2, 8), 1, 0))
    np.testing.assert_array_equal(labels_of(dataset, 1), expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_crowds_are_of_their_class_and_lie_under_single_objects(tmp_path: Path, compressed: bool) -> None:
    crowd: Any = runs(region(3, 2, 10))
    if compressed:
        from pycocotools import mask as coco

        crowd = coco.encode(np.asfortranarray(region(3, 2, 10).astype(np.uint8)))
        crowd["counts"] = crowd["counts"].decode("ascii")
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 2, square(8, 6, 9)), entry(2, 1, 1, crowd, crowd=1)]))
    expected = np.where(region(8, 6, 9), 2, np.where(region(3, 2, 10), 1, 0))
    np.testing.assert_array_equal(labels_of(dataset, 1), expected)


def test_images_come_by_ascending_id_and_only_if_annotated(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 3, 1, square(1, 1, 5)), entry(2, 1, 1, square(1, 1, 5))]))
    assert dataset.image_ids() == ("COCO_val2014_000000000001", "COCO_val2014_000000000003")
    image = Image.open(io.BytesIO(dataset.image_bytes("COCO_val2014_000000000003")))
    assert image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("split", "fold", "some_classes"),
    [  # from the table of the published splits
        ("interleaved", 0, {1, 5, 9, 77}),
        ("interleaved", 3, {4, 8, 12, 80}),
        ("consecutive", 0, set(range(1, 21))),
        ("consecutive", 3, set(range(61, 81))),
    ],
)
def test_both_published_splits_hold_out_twenty_classes_a_fold(split: str, fold: int, some_classes: set[int]) -> None:
    assert some_classes <= set(SPLITS[split][fold])
    assert [len(classes) for classes in SPLITS[split]] == [20] * 4
    assert sorted(c for classes in SPLITS[split] for c in classes) == list(range(1, 81))


def test_training_without_novel_classes_leaves_out_images_that_show_one(tmp_path: Path) -> None:
    write_coco(tmp_path, [entry(1, 1, 1, square(1, 1, 5)), entry(2, 2, 2, square(1, 1, 5))], name="train2014")
    dataset = Coco20i(tmp_path, pool="no-novel")
    assert dataset.fold_image_ids(0) == ["COCO_train2014_000000000002"]  # class 1 is novel in fold 0
    assert dataset.fold_image_ids(1) == ["COCO_train2014_000000000001"]
    assert 1 not in dataset.fold_classes(0)
    assert len(dataset.fold_classes(0)) == 60
    assert len(Coco20i(tmp_path, pool="train").fold_image_ids(0)) == 2
    assert Coco20i(tmp_path, pool="train2014").fold_classes(0) == SPLITS["interleaved"][0]


def test_the_data_may_lie_in_a_folder_coco_with_images_apart(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", [entry(1, 1, 1, square(4, 5, 6))])
    (tmp_path / "coco" / "images").mkdir()
    (tmp_path / "coco" / "val2014").rename(tmp_path / "coco" / "images" / "val2014")
    assert Coco20i(tmp_path).image_bytes("COCO_val2014_000000000001")


def test_without_pycocotools_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 1, square(4, 5, 6))]))
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageError, match=r"fssbench\[coco\]"):
        labels_of(dataset, 1)


def test_no_data_at_the_root_names_the_folders_and_the_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances_val2014\.json.*fssbench download coco20i"):
        Coco20i(tmp_path)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1, 5, 5]],  # pycocotools would take four numbers for a box
        [[1, 1, 5, 5, 3]],
        {"size": [HEIGHT, WIDTH + 1], "counts": [HEIGHT * (WIDTH + 1)]},
        {"size": [HEIGHT, WIDTH], "counts": [7]},
        {"counts": [7]},
        "polygon",
        None,
        [[1, 1, 5, 1, 5, float("nan")]],  # these four crash pycocotools, or make it ask for all memory
        [[1, 1, 5, 1, 5, 1e9]],
        [[1, 1, 5, 1, -1e30, 5]],
        [[1, 1, 5, 1, 5, 10**400]],
        {"size": [HEIGHT, WIDTH], "counts": "~~~"},
        {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": [HEIGHT, WIDTH], "counts": [0.5, HEIGHT * WIDTH - 0.5]},
        {"size": "20 x 30", "counts": "0"},
        [["a", "b", "c", "d", "e", "f"]],
    ],
)
def test_a_segmentation_outside_the_format_is_refused_by_image_and_annotation(
    tmp_path: Path, segmentation: Any
) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(17, 1, 1, segmentation)]))
    with pytest.raises(DataError, match=r"COCO_val2014_000000000001.*annotation 17"):
        labels_of(dataset, 1)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"images": []}', '{"images": [], "annotations": [{"image_id": 4}]}'],
)
def test_a_file_that_is_not_cocos_is_refused_by_name(tmp_path: Path, text: str) -> None:
    write_coco(tmp_path, [])
    (tmp_path / "annotations" / "instances_val2014.json").write_text(text)
    with pytest.raises(DataError, match=r"instances_val2014\.json"):
        Coco20i(tmp_path).image_ids()


def test_a_foreign_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="12"):
        Coco20i(write_coco(tmp_path, [entry(1, 1, 12, square(1, 1, 5))])).image_ids()


def test_a_file_name_never_leads_out_of_the_image_folder(tmp_path: Path) -> None:
    write_coco(tmp_path, [entry(1, 1, 1, square(1, 1, 5))])
    path = tmp_path / "annotations" / "instances_val2014.json"
    path.write_text(path.read_text().replace("COCO_val2014_000000000001.jpg", "../../secret.jpg"))
    with pytest.raises(DataError, match="secret"):
        Coco20i(tmp_path).image_ids()


def test_an_image_that_is_listed_but_absent_is_named(tmp_path: Path) -> None:
    dataset = Coco20i(write_coco(tmp_path, [entry(1, 1, 1, square(1, 1, 5))]))
    (tmp_path / "val2014" / "COCO_val2014_000000000001.jpg").unlink()
    with pytest.raises(DataError, match=r"val2014.COCO_val2014_000000000001\.jpg"):
        dataset.image_bytes("COCO_val2014_000000000001")


@pytest.mark.parametrize("options", [{"pool": "val2015"}, {"split": "interleavd"}])
def test_unknown_lists_and_splits_are_refused_with_the_nearest(tmp_path: Path, options: dict[str, str]) -> None:
    write_coco(tmp_path, [])
    with pytest.raises(UsageError, match="did you mean"):
        Coco20i(tmp_path, **options)


def write_listed(root: Path, numbers: list[int], category: int, name: str = "val2014") -> Path:
    """A COCO of some images by COCO's own numbers, each with one object of a category; ascending ids."""
    objects = [entry(n, n, category, square(4, 5, 6)) for n in numbers]
    return write_coco(root, objects, sorted(numbers), name)


FIRST_OF_REPRI, FIRST_OF_BAM = [429717, 48044, 221350], [553141, 20925, 470885]  # the published files' first lines


@pytest.mark.parametrize(("pool", "first"), [("val2014-repri", FIRST_OF_REPRI), ("val2014-bam", FIRST_OF_BAM)])
def test_images_come_in_a_published_order_and_unknown_ones_last(tmp_path: Path, pool: str, first: list[int]) -> None:
    dataset = Coco20i(write_listed(tmp_path, [1, *sorted(first)], 1), pool=pool)
    assert dataset.image_ids() == tuple(f"COCO_val2014_{n:012}" for n in [*first, 1])


def test_hsnets_lists_give_the_pairs_of_the_images_that_are_there(tmp_path: Path) -> None:
    dataset = Coco20i(write_listed(tmp_path, FIRST_OF_REPRI, 1), pool="hsnet")
    named = [(f"COCO_val2014_{n:012}", 1) for n in FIRST_OF_REPRI]
    assert [pair for pair in dataset.pairs(0) or () if pair[1] == 1] == named  # person, first lines of val_fold0
    assert {c % 4 for _, c in dataset.pairs(2) or ()} <= {3}


def test_hsnets_lists_are_of_the_interleaved_split_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="interleaved"):
        Coco20i(write_listed(tmp_path, [1], 1), pool="hsnet", split="consecutive")


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("val2014", "3 of the 40137 images of the published list val2014 and 1 that it has not"),
        ("train2014", "4 of the 82081"),
        ("trainaug", "4 of the 82081"),
    ],
)
def test_a_part_of_coco_is_never_complete(tmp_path: Path, pool: str, said: str) -> None:
    year = "train2014" if pool.startswith("train") else "val2014"
    dataset = Coco20i(write_listed(tmp_path, [1, *FIRST_OF_BAM], 1, year), pool=pool)
    assert dataset.shortfall().startswith(said)


def test_own_categories_are_never_given_cocos_names(tmp_path: Path) -> None:
    write_coco(tmp_path, [entry(1, 1, 1, square(1, 1, 5))])
    path = tmp_path / "annotations" / "instances_val2014.json"
    own = {**json.loads(path.read_text()), "categories": [{"id": 1, "name": "wheat"}, {"id": 2, "name": "weed"}]}
    path.write_text(json.dumps(own))
    with pytest.raises(DataError, match="1 wheat, 2 weed"):
        Coco20i(tmp_path).image_ids()


def test_names_that_differ_by_suffix_only_are_not_taken_for_one_image(tmp_path: Path) -> None:
    write_coco(tmp_path, [entry(n, n, 1, square(1, 1, 5)) for n in (1, 2)])
    path = tmp_path / "annotations" / "instances_val2014.json"
    path.write_text(path.read_text().replace("000000000002.jpg", "000000000001.png"))
    with pytest.raises(DataError, match="1 names for 2 images"):
        Coco20i(tmp_path).image_ids()


def test_a_compressed_mask_of_many_runs_is_read_as_pycocotools_reads_it() -> None:
    from pycocotools import mask as coco

    from fssbench.datasets.runs import draw_runs, parse_runs

    noise = np.random.default_rng(0).random((37, 53)) < np.linspace(0, 1, 53)
    runs = coco.encode(np.asfortranarray(noise.astype(np.uint8)))["counts"].decode("ascii")
    np.testing.assert_array_equal(draw_runs(parse_runs(runs), 37, 53), noise)


@pytest.mark.parametrize("text", ["", "0", "o", "oo", "~", "1~", "\x1f"], ids=repr)
def test_compressed_counts_that_are_none_or_fill_no_image_are_refused(text: str) -> None:
    from fssbench.datasets.runs import draw_runs, parse_runs

    with pytest.raises(ValueError, match=r"compressed counts|runs"):
        draw_runs(parse_runs(text), 4, 5)


def test_a_number_of_more_than_60_bits_is_refused() -> None:
    from fssbench.datasets.runs import parse_runs

    with pytest.raises(ValueError, match="60 bits"):
        parse_runs("P" * 12 + "0")
    assert parse_runs("P" * 11 + "0").tolist() == [0]


@pytest.mark.parametrize("runs", [[20], [0, 20], [3, 17], [3, 4, 13], [0, 1, 18, 1], [0, 0, 20], [5, 0, 5, 10]])
def test_runs_are_drawn_column_by_column(runs: list[int]) -> None:
    from fssbench.datasets.runs import draw_runs

    flat = [place % 2 == 1 for place, run in enumerate(runs) for _ in range(run)]
    np.testing.assert_array_equal(draw_runs(runs, 4, 5), np.reshape(flat, (5, 4)).T)
    np.testing.assert_array_equal(draw_runs(runs, 4, 5, rows=True), np.reshape(flat, (4, 5)))
