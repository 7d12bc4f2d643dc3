"""LVIS-92i, PACO-Part and PASCAL-Part, whose masks share pixels, on small trees in the layouts of their publishers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import fssbench
from PIL import Image
from trees import photo, write

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.dataset_conformance import CHECKS, Subject
from fssbench.datasets.base import Dataset, layers
from fssbench.datasets.decode import decode_image
from fssbench.datasets.lvis92i import Lvis92i
from fssbench.datasets.paco_part import PacoPart
from fssbench.datasets.pascal_part import PascalPart
from fssbench.datasets.registry import open_under
from fssbench.errors import DataError, UsageError
from fssbench.protocols import FSSBENCH, find_protocol

HEIGHT, WIDTH = 24, 32
RNG = np.random.default_rng(0)


def runs(top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """COCO's run lengths of a rectangle, written out: down each column, zeros first."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    edges = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False)).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, mask.size]).tolist()}


def text_of(counts: Sequence[int]) -> str:
    """The same as COCO's text, by pycocotools."""
    tools = pytest.importorskip("pycocotools.mask", reason="needs the extra fssbench[coco]")
    found: bytes = tools.frPyObjects({"size": [HEIGHT, WIDTH], "counts": list(counts)}, HEIGHT, WIDTH)["counts"]
    return found.decode()


LVIS_IDS = [*range(1, 11), 600, 900]  # 12 classes, some beyond a mask of 8 bits


def lvis(root: Path, images: int = 24) -> Path:
    """Image n shows class n of twelve twice and the next one over it; the last image lies in train2017."""
    annotations = []
    for n in range(images):
        for category, box in (
            (n % 12, (2, 2, 10, 10)),
            (n % 12, (14, 2, 20, 10)),
            ((n + 1) % 12, (6, 6, 16, 20)),
        ):
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "image_id": n + 1, "category_id": LVIS_IDS[category], "segmentation": runs(*box)}
            )
    place = ["val2017"] * (images - 1) + ["train2017"]
    listed = [
        {"id": n + 1, "height": HEIGHT, "width": WIDTH, "coco_url": f"http://of.coco/{place[n]}/{n:012}.jpg"}
        for n in range(images)
    ]  # fmt: skip
    for n in range(images):
        photo(root / "LVIS/coco" / place[n] / f"{n:012}.jpg")
    categories = [{"id": c, "name": f"thing_{c}"} for c in reversed(LVIS_IDS)]
    write(root / "LVIS/lvis_v1_val.json", {"images": listed, "annotations": annotations, "categories": categories})
    return root


PARTS = [1300 + n for n in range(8)]


def paco(root: Path, images: int = 8) -> Path:
    """Image n: an object with parts n and n + 1 (overlapping) and beside it, in an overlapping box, one with part n."""
    annotations: list[dict[str, Any]] = []

    def add(image: int, category: int, whole: int, box: tuple[int, int, int, int]) -> int:
        number = len(annotations) + 1
        top, left, bottom, right = box
        annotations.append(
            {"id": number, "image_id": image, "category_id": category, "obj_ann_id": whole or number,
             "bbox": [left + 0.4, top, right - left, bottom - top], "segmentation": runs(*box)}
        )  # fmt: skip
        return number

    for n in range(images):
        first, second = PARTS[n % 8], PARTS[(n + 1) % 8]
        cup = add(n + 1, 7, 0, (0, 0, 20, 16))
        add(n + 1, first, cup, (2, 2, 10, 10))
        add(n + 1, second, cup, (8, 2, 18, 12))
        other = add(n + 1, 7, 0, (4, 12, 22, 30))
        add(n + 1, first, other, (5, 14, 12, 28))
        photo(root / "coco/val2017" / f"{n:012}.jpg")
    listed = [
        {"id": n + 1, "height": HEIGHT, "width": WIDTH, "file_name": f"val2017/{n:012}.jpg"} for n in range(images)
    ]
    categories = [{"id": 7, "name": "cup", "supercategory": "OBJECT"}]
    categories += [{"id": c, "name": f"cup:part{c}", "supercategory": "PART"} for c in PARTS]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    write(root / "PACO-Part/paco/paco_lvis_v1_val.json", content)
    write(root / "PACO-Part/paco/paco_lvis_v1_train.json", content)
    return root


OBJECTS = {"animals": "dog", "indoor": "sofa", "person": "person", "vehicles": "aeroplane"}


def pascal(root: Path) -> Path:
    """Three validation images a group; each with two objects, the second without the part BODY."""
    folder = root / "Pascal-Part/VOCdevkit/VOC2010"
    lists: dict[str, Any] = {}
    for place, (group, name) in enumerate(OBJECTS.items()):
        images = [f"2008_00{place}{n:03}" for n in range(3)]
        both = {"train": ["2008_009999"], "val": images}
        parts = {"HEAD": both, "BODY": both, "EAR": {"train": [], "val": images}}
        lists[group] = {"object": {name: {"part": {**parts, **({"TAIL": both} if name == "aeroplane" else {})}}}}
        for image in images:
            photo(folder / "JPEGImages" / f"{image}.jpg")
            head, body = (
                {"name": part, "mask": [{**(found := runs(*box)), "counts": text_of(found["counts"])}]}
                for part, box in (("HEAD", (4, 6, 12, 14)), ("BODY", (8, 6, 18, 20)))
            )
            whole = {"xmin": 4, "ymin": 2, "xmax": 22, "ymax": 20}
            objects = [
                {"name": name, "bndbox": whole, "parts": [head, body]},
                {"name": name, "bndbox": {"xmin": "6", "ymin": "4", "xmax": "14", "ymax": "12"}, "parts": [head]},
                {"name": "bottle", "bndbox": whole, "parts": [body]},
            ]
            write(folder / "Annotations_Part_json_merged_part_classes" / f"{image}.json", {"object": objects})
    write(folder / "all_obj_part_to_image.json", lists)
    return root


MADE = [(Lvis92i, lvis), (PacoPart, paco), (PascalPart, pascal)]
QUICK_FIRST = [pytest.param(name, marks=[pytest.mark.slow] * (name == "bank")) for name in CHECKS]


@pytest.mark.parametrize("check", QUICK_FIRST)
@pytest.mark.parametrize(("cls", "make"), MADE)
def test_the_contract_is_kept(cls: type[Dataset], make: Callable[[Path], Path], check: str, tmp_path: Path) -> None:
    CHECKS[check](Subject(cls, make(tmp_path)))


@pytest.mark.parametrize("cls", [cls for cls, _ in MADE])
def test_an_empty_folder_says_what_belongs_there(cls: type[Dataset], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"expected {tmp_path}.*fssbench download {cls.name}"):
        cls(tmp_path)  # type: ignore[call-arg]


@pytest.mark.parametrize(("cls", "make"), MADE)
def test_a_bank_of_the_default_protocol_is_sound_and_says_that_these_are_not_the_published_classes(
    cls: type[Dataset], make: Callable[[Path], Path], tmp_path: Path
) -> None:
    root, out = make(tmp_path), tmp_path / "a.h5"
    fssbench(
        "generate-episodes",
        cls.name,
        "--root",
        root,
        "--shots",
        "1",
        "--episodes",
        "8",
        "--skip-short-classes",
        "--out",
        out,
    )
    with open_bank(out) as bank:
        assert list(problems(bank)) == []
        assert "classes a fold, where" in bank.note


def test_overlapping_classes_of_lvis_keep_their_pixels_and_objects_of_one_class_are_united(tmp_path: Path) -> None:
    data = Lvis92i(lvis(tmp_path))
    found = layers(data, "val2017/000000000010")
    assert set(found.areas) == {600, 900}
    assert found.maps[600].dtype == np.uint16
    assert found.areas == {600: 8 * 8 + 6 * 8, 900: 10 * 14}
    assert (found.maps[600] == 600)[6:10, 6:10].all()
    assert (found.maps[900] == 900)[6:10, 6:10].all()
    assert data.image_ids()[-1] == "train2017/000000000023"


def test_the_classes_of_an_lvis_fold_are_each_tenth_of_those_with_more_images_than_shots(tmp_path: Path) -> None:
    path = lvis(tmp_path, 37) / "LVIS/lvis_v1_val.json"  # 6 images of each class, but 7 of the first two
    assert Lvis92i(tmp_path).folds == tuple((c,) for c in LVIS_IDS[:10])  # 12 // 10, the rest dropped
    content = json.loads(path.read_text())
    once = [a for a in content["annotations"] if a["category_id"] != 3 or a["image_id"] == 3]
    path.write_text(json.dumps({**content, "annotations": once}))
    assert Lvis92i(tmp_path).folds == tuple((c,) for c in [1, 2, *range(4, 11), 600])
    few = Lvis92i(tmp_path, split="5-shot")
    assert few.folds == Lvis92i(tmp_path).folds
    assert "1, 1, 1, 1, 1, 1, 1, 1, 1, 1 classes a fold, where LVIS-92i 5-shot has 68, 68" in few.shortfall()
    dropped = [a for a in once if a["category_id"] != 600 or a["image_id"] > 12]  # 4 images of it are left
    path.write_text(json.dumps({**content, "annotations": dropped}))
    assert {c for fold in Lvis92i(tmp_path, split="5-shot").folds for c in fold} == {1, 2, *range(4, 11), 900}
    with pytest.raises(UsageError, match="did you mean '5-shot'"):
        Lvis92i(tmp_path, split="5shot")


def test_matchers_episodes_of_lvis_go_through_the_classes_by_turns(tmp_path: Path) -> None:
    data, protocol = open_under(find_protocol("hsnet", "lvis92i"), "lvis92i", lvis(tmp_path))
    assert protocol.episodes == 2300
    generate(data, Request(protocol.but(episodes=6), shots=(1,), folds=(4,)), tmp_path / "a.h5")
    with open_bank(tmp_path / "a.h5") as bank:
        assert [int(c) for (c,) in bank.episodes(4, 1).classes] == [5] * 6


def test_a_crop_is_what_its_name_says_and_shows_the_parts_of_its_object_only(tmp_path: Path) -> None:
    data = PacoPart(paco(tmp_path))
    first, second = "val2017/000000000000#0,0,16,20", "val2017/000000000000#12,4,30,22"
    assert data.image_ids()[:2] == [first, second]
    with Image.open(tmp_path / "coco/val2017/000000000000.jpg") as photograph:
        pixels = np.asarray(photograph)
    np.testing.assert_array_equal(np.asarray(decode_image(data.image_bytes(second), "crop")), pixels[4:22, 12:30])
    found = layers(data, second)
    assert found.areas == {1300: 7 * 14}  # not what the other object has within the box
    assert (found.maps[1300] == 1300)[1:8, 2:16].all()
    assert layers(data, first).areas == {1300: 64, 1301: 100}  # and both keep the 16 px they share


def test_crops_of_one_photograph_never_meet_in_an_episode(tmp_path: Path) -> None:
    protocol = FSSBENCH.but(episodes=40, min_area=1)
    generate(PacoPart(paco(tmp_path)), Request(protocol, shots=(1,), folds=(0, 1)), tmp_path / "a.h5")
    with open_bank(tmp_path / "a.h5") as bank:
        photographs = np.array([image_id.partition("#")[0] for image_id in bank.image_ids])
        for fold in (0, 1):
            episodes = bank.episodes(fold, 1)
            assert (photographs[episodes.query] != photographs[episodes.support[:, 0, 0]]).all()


def test_a_part_class_is_tested_if_more_photographs_than_shots_show_it(tmp_path: Path) -> None:
    assert PacoPart(paco(tmp_path)).folds == tuple((1300 + f, 1304 + f) for f in range(4))
    lone = PacoPart(paco(tmp_path / "few", images=3))  # 1303 in one photograph, 1301 and 1302 in two
    assert lone.folds == ((), (1301,), (1302,), ())
    assert "4 of 448 part classes in training" in lone.shortfall()


def test_a_pascal_part_is_tested_if_both_lists_have_it_but_the_tail_of_aeroplanes(tmp_path: Path) -> None:
    data = PascalPart(pascal(tmp_path))
    assert list(data.class_names.values()) == [
        f"{name}+{part}" for name in OBJECTS.values() for part in ("HEAD", "BODY")
    ]
    assert data.folds == ((1, 2), (3, 4), (5, 6), (7, 8))
    assert data.shortfall() == "2, 2, 2, 2 classes a fold, where PASCAL-Part has 31, 4, 5, 16"
    assert data.image_ids()[:2] == ["2008_000000#4,2,22,20", "2008_000000#6,4,14,12"]
    assert layers(data, "2008_000000#4,2,22,20").areas == {1: 64, 2: 140}
    assert layers(data, "2008_000000#6,4,14,12").areas == {1: 64}


def test_a_foreign_or_damaged_annotation_is_one_message_that_names_the_file(tmp_path: Path) -> None:
    folder = pascal(tmp_path) / "Pascal-Part/VOCdevkit/VOC2010"
    path = folder / "Annotations_Part_json_merged_part_classes/2008_000001.json"
    for content in ("{", '{"object": [{"name": "dog"}]}', path.read_text().replace('"size": [24', '"size": [25', 1)):
        path.write_text(content)
        with pytest.raises(DataError, match=r"2008_000001\.json: expected JSON as Matcher"):
            PascalPart(tmp_path).image_ids()
    Image.new("RGB", (9, 9)).save(folder / "JPEGImages/2008_000000.jpg")
    write(path, {"object": []})
    with pytest.raises(DataError, match="expected 24 x 32 px as its annotations say, found 9 x 9"):
        PascalPart(tmp_path).image_bytes("2008_000000#4,2,22,20")


def test_a_box_that_is_none_is_one_message_that_names_the_file(tmp_path: Path) -> None:
    path = paco(tmp_path) / "PACO-Part/paco/paco_lvis_v1_val.json"
    content = json.loads(path.read_text())
    for box in ([1, 2, 3], [0, 0, float("nan"), 5], "none"):
        content["annotations"][0]["bbox"] = box
        write(path, content)
        with pytest.raises(DataError, match=r"paco_lvis_v1_val\.json: expected COCO's instances"):
            PacoPart(tmp_path)
