"""DeepGlobe, ISIC 2018, chest X-rays and iSAID-5i, on small trees in the layouts that their users have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench
from PIL import Image
from trees import photo, save

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.dataset_conformance import CHECKS, Subject
from fssbench.datasets.base import Dataset, layers
from fssbench.datasets.chestxray import ChestXray
from fssbench.datasets.coco20i import Coco20i
from fssbench.datasets.deepglobe import DeepGlobe
from fssbench.datasets.isaid5i import Isaid5i, published_pairs
from fssbench.datasets.isic2018 import Isic2018, published_classes
from fssbench.datasets.pascal5i import CLASSES, SPLITS, Pascal5i
from fssbench.datasets.registry import open_under
from fssbench.errors import DataError, UsageError
from fssbench.protocols import find_protocol
from fssbench.records import find_records, read_run
from fssbench.regime import folded
from fssbench.reports.studies import robustness as studies


def mask(path: Path, rows: slice, value: int = 255) -> None:
    labels = np.zeros((24, 32), np.uint8)
    labels[rows, 4:20] = value
    save(path, labels)


def deepglobe(root: Path) -> Path:
    """Twelve tiles; tile n shows classes 1 + n mod 6 and 1 + (n + 1) mod 6."""
    for n in range(12):
        for place in range(2):
            folder = root / "Deepglobe" / str(1 + (n + place) % 6) / "test"
            photo(folder / "origin" / f"{100 + n}_00.jpg")
            mask(folder / "groundtruth" / f"{100 + n}_00.png", slice(12 * place, 12 * place + 10))
    return root


def isic(root: Path) -> Path:
    """Three listed images of each class in folders, as PATNet wants them, one flat, one that is not listed."""
    names = published_classes()
    for number, lesion in enumerate(("nevus", "melanoma", "seborrheic_keratosis"), start=1):
        for place, name in enumerate([n for n, found in names.items() if found == lesion][:3]):
            folder = root / "ISIC" / "ISIC2018_Task1-2_Training_Input"
            photo(folder / (str(number) if place else "") / f"{name}.jpg")
            mask(root / "ISIC/ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png", slice(3, 15))
    photo(root / "ISIC/ISIC2018_Task1-2_Training_Input/ISIC_9999999.jpg")
    return root


def chest(root: Path) -> Path:
    """Four of Shenzhen's names, one of Montgomery's."""
    for number in range(4):
        photo(root / "LungSegmentation/CXR_png" / f"CHNCXR_{number:04}_0.png")
        mask(root / "LungSegmentation/masks" / f"CHNCXR_{number:04}_0_mask.png", slice(2, 20))
    photo(root / "LungSegmentation/CXR_png/MCUCXR_0001_0.png")
    mask(root / "LungSegmentation/masks/MCUCXR_0001_0.png", slice(2, 20))
    return root


def isaid(root: Path) -> Path:
    """The first four listed patches of each class, each showing every class that a list names it for."""
    listed = [pair for pairs in published_pairs("val") for pair in pairs]
    firsts = {patch for c in range(1, 16) for patch in [p for p, other in listed if other == c][:4]}
    folder = root / "remote_sensing/iSAID_patches/val"
    for patch in sorted(firsts):
        labels = np.zeros((24, 32), np.uint8)
        for place, class_id in enumerate(c for name, c in listed if name == patch):
            labels[2 + 4 * place : 5 + 4 * place] = class_id
        photo(folder / "images" / f"{patch}.png")
        save(folder / "semantic_png" / f"{patch}_instance_color_RGB.png", labels)
    return root


QUICK_FIRST = [pytest.param(name, marks=[pytest.mark.slow] * (name == "bank")) for name in CHECKS]
MADE = [(DeepGlobe, deepglobe), (Isic2018, isic), (ChestXray, chest), (Isaid5i, isaid)]


@pytest.mark.parametrize("check", QUICK_FIRST)
@pytest.mark.parametrize(("cls", "make"), MADE)
def test_the_contract_is_kept(cls: type[Dataset], make: Callable[[Path], Path], check: str, tmp_path: Path) -> None:
    CHECKS[check](Subject(cls, make(tmp_path)))


@pytest.mark.parametrize(("cls", "make"), MADE)
def test_the_published_test_makes_a_sound_bank_that_is_not_called_complete(
    cls: type[Dataset], make: Callable[[Path], Path], tmp_path: Path
) -> None:
    data, protocol = open_under(find_protocol("hsnet", cls.name), cls.name, make(tmp_path))
    protocol = protocol if cls is Isaid5i else protocol.but(episodes=12)
    generate(data, Request(protocol, shots=(1,)), tmp_path / "a.h5")
    with open_bank(tmp_path / "a.h5") as bank:
        assert list(problems(bank)) == []
        assert bank.note


@pytest.mark.parametrize("cls", [cls for cls, _ in MADE])
def test_an_empty_folder_says_what_belongs_there(cls: type[Dataset], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"expected {tmp_path}.*fssbench download {cls.name}"):
        cls(tmp_path)  # type: ignore[call-arg]


def test_a_tile_has_the_mask_of_each_class_in_whose_folder_it_lies(tmp_path: Path) -> None:
    data = DeepGlobe(deepglobe(tmp_path))
    found = layers(data, "105_00")
    assert found.areas == {6: 160, 1: 160}
    assert (found.maps[6] == 6)[:10, 4:20].all()
    assert (found.maps[1] == 1)[12:22, 4:20].all()
    assert "12 tiles; the paper says 5666" in data.shortfall()


def test_a_lesion_has_the_class_of_the_list_in_either_order(tmp_path: Path) -> None:
    root = isic(tmp_path)
    name = next(image_id for image_id, lesion in published_classes().items() if lesion == "melanoma")
    assert layers(Isic2018(root), name).areas == {2: 192}
    assert layers(Isic2018(root, split="ifa"), name).areas == {3: 192}
    assert Isic2018(root, split="ifa").class_names[2] == "seborrheic_keratosis"
    assert len(Isic2018(root).image_ids()) == 9
    assert Isic2018(root).shortfall() == "9 of the 2594 images of the published list isic2018"
    with pytest.raises(UsageError, match="did you mean 'gfsam'"):
        Isic2018(root, split="gfsan")


def test_only_masks_that_the_published_rule_reads_are_in_the_pool_of_x_rays(tmp_path: Path) -> None:
    data = ChestXray(chest(tmp_path))
    assert data.image_ids() == [f"CHNCXR_{number:04}_0" for number in range(4)]
    assert "1 masks of another name passed over" in data.shortfall()


def test_the_lists_of_isaid_have_the_published_lengths(tmp_path: Path) -> None:
    assert [len(pairs) for pairs in published_pairs("val")] == [3108, 3657, 3298]
    assert [len(pairs) for pairs in published_pairs("train")] == [9090, 11035, 8107]
    assert [len({patch for patch, _ in pairs}) for pairs in published_pairs("val")] == [3010, 2826, 3273]
    assert Counter(c for _, c in published_pairs("val")[1]) == {6: 547, 7: 96, 8: 1190, 9: 1814, 10: 10}


def test_of_isaid_each_fold_has_its_own_lines_and_training_those_of_the_others(tmp_path: Path) -> None:
    root = isaid(tmp_path)
    data = Isaid5i(root)
    assert {c for _, c in data.pairs(1)} == set(data.fold_classes(1)) == {6, 7, 8, 9, 10}
    assert "of the 10063 (image, class) pairs" in data.shortfall()
    (root / "remote_sensing/iSAID_patches/val").rename(root / "remote_sensing/iSAID_patches/train")
    assert Isaid5i(root, pool="train").fold_classes(1) == (1, 2, 3, 4, 5, 11, 12, 13, 14, 15)


def test_one_command_trains_on_all_of_pascal_and_tests_on_every_member_of_the_suite(
    make_voc: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"deepglobe": deepglobe, "isic2018": isic, "chestxray": chest}
    monkeypatch.setattr(studies, "SUITES", {"cross-domain": tuple(members)})
    monkeypatch.chdir(tmp_path)
    root = make_voc({f"2007_{n:06}": [1 + n % 20] for n in range(100)}, "data", "trainaug")
    for number, path in enumerate(sorted((root / "VOCdevkit/VOC2012/SegmentationClassAug").iterdir())):
        labels = np.zeros((48, 64), np.uint8)
        labels[2:46, 8:60] = 1 + number % 20 if number < 60 else 1  # 2288 px; 1: enough to hold some back
        Image.fromarray(labels).save(path)
    for make in members.values():
        make(root)
    command = ["cross-domain", "toy_training:Learner", "--root", str(root), "--backbone", "toy", "--steps", "2"]
    done = fssbench(*command, "--shots", "1", "--episodes", "6")
    runs = [read_run(folder) for folder in find_records(Path("results"))]
    assert sorted(run.bank.dataset for run in runs) == sorted(members)
    for run in runs:
        regime = run.weights[0].regime
        assert regime is not None
        assert regime.dataset == "pascal5i"
        assert regime.classes == Pascal5i.class_names
        assert run.bank.protocol["name"] == "hsnet"
    table = done.out.splitlines()
    mean = sum(run.summary["miou"] for run in runs) / 3
    assert any(f"| {100 * mean:.1f} \\[" in line for line in table)


def test_pascal_classes_that_coco_has_not_trained_on_are_four_folds_of_all_twenty() -> None:
    for split in ("from-coco", "from-coco-repri"):
        assert sorted(c for fold in SPLITS[split] for c in fold) == list(range(1, 21))
    names = dict(enumerate(CLASSES, start=1))
    for fold, held_out in enumerate(SPLITS["from-coco"]):
        trained = {folded(name) for number, name in Coco20i.class_names.items() if (number - 1) % 4 != fold}
        assert {c for c, name in names.items() if folded(name) not in trained} == set(held_out)
