"""Out of a bank and back: plain files for any program, and masks that name the bank they were made for."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench
from PIL import Image
from repository import ROOT
from trees import save

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.own.dataset import Folder
from fssbench.predictions import write_predictions
from fssbench.protocols import FSSBENCH
from fssbench.records import read_record
from fssbench.submissions import labels_of, open_submission

PAGE = ROOT / "docs" / "round-trip.md"
PROTOCOL = FSSBENCH.but(episodes=6, min_area=20)


def own_data(root: Path) -> Path:
    """Ten images of 24 x 32 px: a red square of class cat, a blue one of class dog, on noise."""
    for i in range(10):
        pixels = np.random.default_rng(i).integers(90, 160, (24, 32, 3), np.uint8)
        labels = np.zeros((24, 32), np.uint8)
        labels[2 + i % 3 : 12, 3:12], labels[8:20, 18 : 27 + i % 4] = 1, 2
        pixels[labels == 1], pixels[labels == 2] = (250, 10, 10), (10, 10, 250)
        labels[0] = 255
        save(root / "images" / f"{i}.png", pixels)
        save(root / "masks" / f"{i}.png", labels)
    (root / "dataset.toml").write_text('name = "pets"\nmin_area = 20\n[classes]\ncat = 1\ndog = 2\n')
    return root


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A bank of one way, and one of two, of two shots each."""
    root = tmp_path_factory.mktemp("own")
    data = Folder(own_data(root))
    for ways in (1, 2):
        request = Request(PROTOCOL, shots=(2,), ways=ways, annotations=("box",))
        generate(data, request, root / f"{ways}.h5")
    return {ways: root / f"{ways}.h5" for ways in (1, 2)}


@pytest.mark.parametrize("ways", [1, 2])
def test_an_export_holds_what_the_bank_holds(banks: dict[int, Path], ways: int, tmp_path: Path) -> None:
    fssbench("export", banks[ways], "--out", tmp_path / "out", "--truth", "--shots", "1")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    with open_bank(banks[ways]) as bank:
        assert manifest["bank"] == bank.fingerprint
        assert (manifest["ways"], manifest["shots"], manifest["classes"]) == (ways, 1, {"1": "cat", "2": "dog"})
        drawn = bank.episodes(0, 1)
        assert len(manifest["episodes"]) == len(drawn)
        for number, entry in enumerate(manifest["episodes"]):
            query = (tmp_path / "out" / entry["query"]).read_bytes()
            assert query == bank.image_bytes(int(drawn.query[number]))
            truth = np.asarray(Image.open(tmp_path / "out" / entry["truth"]))
            np.testing.assert_array_equal(
                truth, bank.masks.truth(int(drawn.query[number]), drawn.classes[number].tolist())
            )
            for way, (support,) in enumerate(entry["supports"]):
                assert set(support) == {"image", "mask", "box"}
                mask = np.asarray(Image.open(tmp_path / "out" / support["mask"]))
                codes = bank.masks.of_class(int(drawn.support[number, way, 0]), entry["classes"][way])
                assert {(int(a), int(b)) for a, b in zip(codes.ravel(), mask.ravel(), strict=True)} == {
                    (0, 0), (1, 255), (255, 128),
                }  # fmt: skip


def test_the_program_of_the_page_makes_masks_that_are_scored(
    banks: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(program.splitlines()) <= 30 and "fssbench" not in program
    monkeypatch.chdir(tmp_path)
    fssbench("export", banks[1], "--out", "exported", "--shots", "1")
    Path("nearest_colour.py").write_text(program, encoding="utf-8")
    subprocess.run([sys.executable, "-I", "nearest_colour.py"], check=True, timeout=60)
    fssbench("score", "masks", "--bank", banks[1], "--shots", "1", "--name", "nearest colour")
    (folder,) = Path("results/pets").iterdir()
    assert read_record(folder).run.summary["folds"]["0"]["miou"] > 0.9  # red and blue squares on grey


def perfect(bank_path: Path, folder: Path, values: int = 1) -> None:
    """Right masks of all episodes, the object as `values`."""
    with open_bank(bank_path) as bank:
        drawn = bank.episodes(0, 1)
        (folder / "0").mkdir(parents=True)
        for number, query in enumerate(drawn.query.tolist()):
            truth = bank.masks.truth(query, drawn.classes[number].tolist())
            labels = np.where(truth == 255, 0, truth * values).astype(np.uint8)
            Image.fromarray(labels).save(folder / "0" / f"{number}.png")
        (folder / "manifest.json").write_text(json.dumps({"bank": bank.fingerprint}))


@pytest.mark.parametrize("store", ["folder", "hdf5"])
def test_masks_of_0_and_255_are_taken_at_one_way(banks: dict[int, Path], tmp_path: Path, store: str) -> None:
    perfect(banks[1], tmp_path / "masks", 255)
    path = tmp_path / "masks"
    if store == "hdf5":
        path = tmp_path / "masks.h5"
        files = sorted((tmp_path / "masks" / "0").iterdir(), key=lambda file: int(file.stem))
        with open_bank(banks[1]) as bank:
            write_predictions(path, bank.fingerprint, ((0, int(f.stem), f.read_bytes()) for f in files))
    words = ["score", path, "--bank", banks[1], "--shots", "1", "--name", "right", "--out", tmp_path / "r", "--json"]
    assert json.loads(fssbench(*words).out)["summary"]["folds"]["0"]["miou"] == 1.0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("manifest.json", "names the bank they were made for"),
        ("other bank", "name the right --bank"),
        ("0/3.png", "1 missing (0/3)"),
        ("surplus", "2 of no episode (0/6, 4/0)"),
        ("foreign", "expected masks named <fold>/<episode>.png"),
        ("colours", "found colours"),
    ],
)
def test_masks_that_do_not_account_for_the_bank_are_refused(
    banks: dict[int, Path], tmp_path: Path, harm: str, said: str
) -> None:
    masks = tmp_path / "masks"
    perfect(banks[1], masks)
    if (masks / harm).is_file():
        (masks / harm).unlink()
    elif harm == "other bank":
        (masks / "manifest.json").write_text('{"bank": "0123456789abcdef"}')
    elif harm == "surplus":
        (masks / "4").mkdir()
        for name in ("0/6.png", "4/0.png"):
            shutil.copy(masks / "0" / "0.png", masks / name)
    elif harm == "foreign":
        shutil.copy(masks / "0" / "0.png", masks / "overview.png")
    else:
        Image.new("RGB", (32, 24), (200, 10, 10)).save(masks / "0" / "2.png")
    words = ["score", masks, "--bank", banks[1], "--shots", "1", "--name", "x", "--out", tmp_path / "r"]
    assert said in fssbench(*words, status=2).said
    assert not (tmp_path / "r").exists()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_one_reader_takes_a_mask_in_any_mode_that_says_the_same(mode: str) -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[1:3, 2:5] = 1
    grey = Image.fromarray(labels)
    image = Image.fromarray(labels.astype(bool)) if mode == "1" else grey.convert(mode)
    if mode == "P":
        image = grey.copy()
        image.putpalette([0, 0, 0, 200, 30, 30])
    np.testing.assert_array_equal(labels_of(png(image), "here"), labels)


def test_an_export_is_whole_and_replaces_only_its_like(banks: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert "it is no export" in fssbench("export", banks[1], "--out", tmp_path / "mine", "--force", status=2).said
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    fssbench("export", banks[1], "--out", tmp_path / "e")
    fssbench("export", banks[1], "--out", tmp_path / "e", status=2)
    fssbench("export", banks[1], "--out", tmp_path / "e", "--force", "--truth")
    assert (tmp_path / "e" / "truth").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "mine"]


def test_a_file_without_its_banks_name_is_no_submission(banks: dict[int, Path], tmp_path: Path) -> None:
    perfect(banks[1], tmp_path / "masks")
    write_predictions(tmp_path / "p.h5", "", iter([(0, 0, (tmp_path / "masks" / "0" / "0.png").read_bytes())]))
    words = ["score", tmp_path / "p.h5", "--bank", banks[1], "--shots", "1", "--name", "x", "--out", tmp_path / "r"]
    fssbench(*words, status=2)
    with open_submission(tmp_path / "p.h5") as found:
        assert (found.bank, found.episodes()) == ("", {0: {0}})
