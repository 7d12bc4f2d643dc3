"""Data sets of others: found by name, module or file, and held to the contract by the same checks as ours."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command_line import fresh, line
from PIL import Image
from polyps_data import Polyps
from repository import PLUGINS, ROOT

from fssbench.dataset_conformance import CHECKS, Subject, failure
from fssbench.datasets.base import Dataset, Mask
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.datasets.reading import encode_png
from fssbench.datasets.registry import dataset_names, find_dataset
from fssbench.datasets.shapes5i import Shapes5i
from fssbench.errors import UsageError

QUICK_FIRST = [pytest.param(name, marks=[pytest.mark.slow] * (name == "bank")) for name in CHECKS]


@pytest.fixture
def polyps(tmp_path: Path) -> Path:
    """Four images of each class in the layout that the plug-in reads."""
    rng = np.random.default_rng(0)
    for name in Polyps.class_names.values():
        folder = tmp_path / "data" / "polyps" / "test" / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
            mask = np.zeros((24, 32), np.uint8)
            mask[4 : 14 + number, 5:20] = 255
            Image.fromarray(mask).save(folder / f"{number}_mask.png")
    return tmp_path / "data"


@pytest.mark.parametrize("check", CHECKS)
def test_the_plug_in_of_the_manual_passes(check: str, polyps: Path) -> None:
    CHECKS[check](Subject(Polyps, polyps))


@pytest.mark.parametrize("check", QUICK_FIRST)
@pytest.mark.parametrize("cls", [Shapes5i, Pascal5i])
def test_our_own_pass(check: str, cls: type[Dataset], small_voc_original: Path) -> None:
    CHECKS[check](Subject(cls, small_voc_original))


@pytest.mark.parametrize("name", ["polyps_data:Polyps", f"{PLUGINS / 'polyps_data.py'}:Polyps"])
def test_a_data_set_is_found_by_module_or_file(name: str) -> None:
    assert find_dataset(name) is Polyps


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pascal", "unknown data set 'pascal': did you mean 'pascal5i'"),
        ("polyps_data:Polips", r"nothing of that name \(it has Polyps\)"),
        ("polyps_data:Path", "to be a subclass of fssbench.datasets.base.Dataset"),
        ("no_such_package.x:Y", "could not be imported"),
    ],
)
def test_a_name_that_is_no_data_set_says_why(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_dataset(name)


def install(site: Path) -> dict[str, str]:
    """Put the plug-in where pip would, with its entry point; the variables of a process that finds it."""
    (site / "polyps-1.0.dist-info").mkdir(parents=True)
    (site / "polyps-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: polyps\nVersion: 1.0\n")
    (site / "polyps-1.0.dist-info" / "entry_points.txt").write_text(
        "[fssbench.datasets]\npolyps = polyps_data:Polyps\n"
    )
    (site / "polyps_data.py").write_bytes((PLUGINS / "polyps_data.py").read_bytes())
    return {"PYTHONPATH": f"{site}:{ROOT}", "PATH": ""}


def test_an_installed_data_set_goes_by_its_name_from_the_bank_to_attach(polyps: Path, tmp_path: Path) -> None:
    environment = install(tmp_path / "site")

    def fssbench(*words: str) -> str:
        return fresh(line(*words, "--root", polyps, "--json"), cwd=tmp_path, **environment).out

    made = ["generate-episodes", "polyps", "--shots", "1", "--episodes", "4"]
    full = json.loads(fssbench(*made, "--out", "a.h5"))
    index = json.loads(fssbench(*made, "--out", "a.index.h5", "--index"))
    attached = json.loads(fssbench("attach", "a.index.h5", "--out", "b.h5"))
    assert full["dataset"] == "polyps"
    assert full["fingerprint"] == index["fingerprint"] == attached["fingerprint"]
    assert json.loads(fssbench("doctor", "polyps"))["healthy"]
    assert {row["check"] for row in json.loads(fssbench("conformance", "polyps")) if row["passed"]} == set(CHECKS)


def test_a_data_set_in_a_file_is_read_by_several_processes(polyps: Path, tmp_path: Path) -> None:
    own = tmp_path / "own_polyps.py"
    own.write_bytes((PLUGINS / "polyps_data.py").read_bytes())
    command = ["generate-episodes", f"{own}:Polyps", "--root", str(polyps), "--shots", "1", "--episodes", "4"]
    fresh(line(*command, "--out", "a.h5", "--workers", "2"), cwd=tmp_path, PYTHONPATH=str(ROOT))


def test_the_names_are_listed(tmp_path: Path) -> None:
    code = "from fssbench.datasets.registry import dataset_names; print(*dataset_names())"
    listed = fresh([sys.executable, "-c", code], **install(tmp_path / "site")).out
    assert set(listed.split()) == {*dataset_names(), "polyps"}


# Every check finds what it is for


def changed(**parts: object) -> type[Polyps]:
    return type("Changed", (Polyps,), parts)


def unordered(self: Polyps) -> Sequence[str]:
    counter[0] += 1
    return self._ids if counter[0] % 2 else self._ids[::-1]


counter = [0]


def noise(self: Polyps, image_id: str) -> bytes:
    counter[0] += 1
    return encode_png(np.full((24, 32, 3), counter[0] % 256, np.uint8))


def of_another_class(self: Polyps, image_id: str) -> Mask:
    return Mask(encode_png(np.full((24, 32), 9, np.uint8)))


def small(self: Polyps, image_id: str) -> Mask:
    return Mask(encode_png(np.ones((2, 2), np.uint8)), 1)


def with_a_function(self: Polyps, image_id: str) -> Mask:
    self.__dict__["_reader"] = lambda: None
    return Polyps.mask(self, image_id)


def hashed(self: Polyps, image_id: str) -> bytes:
    return {name: Polyps.image_bytes(self, name) for name in self._ids}[image_id]


def anywhere(self: Polyps, root: Path, *, pool: str = "default") -> None:
    Polyps.__init__(self, root)


@pytest.mark.parametrize(
    ("check", "cls", "words"),
    [
        ("names", changed(name="../x"), "name: '../x'"),
        ("names", changed(class_names={0: "flat", 1: "sessile"}), "class ids from 1"),
        ("names", changed(class_names={1: "flat", 2: "flat", 3: "stalked"}), "none twice"),
        ("folds", changed(folds=((1, 2), (2, 3))), "each in one fold"),
        ("folds", changed(folds=((1,), (9,))), "classes of class_names"),
        ("folds", changed(fold_classes=lambda self, fold: (9,)), r"fold_classes\(0\)"),
        ("folds", changed(fold_image_ids=lambda self, fold: ["elsewhere"]), r"fold_image_ids\(0\).*elsewhere"),
        ("folds", changed(pairs=lambda self, fold: [("flat/0", 2)]), r"pairs\(0\): expected classes"),
        ("images", changed(image_ids=lambda self: ["a|b"]), "image_ids: 'a|b'"),
        ("images", changed(image_ids=lambda self: ["a", "a"]), "none twice"),
        ("images", changed(image_ids=lambda self: []), "expected images"),
        ("images", changed(image_ids=unordered), "the same order"),
        ("masks", changed(mask=small), "of one size"),
        ("masks", changed(mask=of_another_class), r"found \[9\]"),
        ("masks", changed(image_bytes=noise), "same image and mask every time"),
        ("absent_image", changed(image_bytes=hashed), "found KeyError"),
        ("absent_image", changed(image_bytes=lambda self, image_id: b""), "found nothing wrong"),
        ("absent_data", changed(__init__=anywhere), "unknown pool: expected a UsageError or DataError"),
        ("other_processes", changed(mask=with_a_function), "pickle"),
        ("bank", changed(fold_image_ids=lambda self, fold: self._ids[:1]), "two images of some class"),
    ],
)
def test_a_breach_of_the_contract_is_found_by_its_check(
    check: str, cls: type[Dataset], words: str, polyps: Path
) -> None:
    subject = Subject(cls, polyps)
    if check == "other_processes":
        subject.dataset.masks(subject.sample[0])
    problem = failure(CHECKS[check], subject)
    assert problem is not None
    assert re.search(words, problem), problem


def test_data_that_are_not_there_are_a_failure_and_no_crash(tmp_path: Path) -> None:
    said = {failure(check, Subject(Polyps, tmp_path)) for check in CHECKS.values()}
    assert len(said - {None}) == 1
    assert "no polyps at" in str(said)
