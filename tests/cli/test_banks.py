"""The commands for banks: what they print, and how they refuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import fssbench, refused
from PIL import Image
from repository import ROOT
from trees import entry, square, write_coco

from fssbench.banks.bank import open_bank

VOC = "VOCdevkit/VOC2012"
SMALL = ("--episodes", "6", "--min-area", "100", "--shots", "2")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tmp_path` is the working folder, and no variable names data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FSSBENCH_DATA", raising=False)


def says(message: str, *parts: str) -> None:
    assert all(part in message for part in parts), message


def test_a_bank_goes_where_its_name_says_and_stdout_tells_what_is_in_it(small_voc: Path) -> None:
    done = fssbench("generate-episodes", "pascal5i", *SMALL, "--json")
    facts: dict[str, Any] = json.loads(done.out)
    assert done.err == ""
    assert facts["bank"] == "episodes/pascal5i-fssbench-1way-2shot.h5"
    assert (facts["dataset"], facts["shots"], facts["seeds"]) == ("pascal5i", "1 to 2", [0])
    assert [fold["episodes"] for fold in facts["folds"]] == [6, 6, 6, 6]
    assert json.loads(fssbench("inspect", facts["bank"], "--json").out) == facts


def test_options_reach_the_bank(small_voc: Path) -> None:
    words = ("--shots", "1", "3", "--ways", "2", "--folds", "1", "3", "--seeds", "4", "5", "--episodes", "7")
    more = ("--supports-per-query", "2", "--auxiliary", "1", "--annotations", "box,point", "--min-area", "50")
    fssbench("generate-episodes", "pascal5i", *words, *more, "--out", "x.h5")
    with open_bank(Path("x.h5")) as bank:
        assert (bank.ways, bank.shots, tuple(bank.fold_classes)) == (2, 3, (1, 3))
        assert (bank.protocol.seeds, bank.protocol.min_area) == ((4, 5), 50)
        assert bank.masks.kinds == ("mask", "box", "point")
        episodes = bank.episodes(1)
        assert len(episodes) == 7 * 2 * 2
        assert episodes.auxiliary is not None
        assert episodes.auxiliary.shape == (28, 2, 1)


def test_inspect_prints_the_text_that_published_hashes_are_over(shared_material: Path) -> None:
    masks = shared_material / "data" / "voc2012_masks_aug.zip"
    words = ("--root", str(masks), "--index", "--folds", "1", "--shots", "1", "5", "--out", "h.h5")
    fssbench("generate-episodes", "pascal5i", "--protocol", "hsnet", *words)
    text = fssbench("inspect", "h.h5", "--episodes", "--fold", "1", "--shots", "5").out
    published = json.loads((ROOT / "tests" / "banks" / "published_episodes.json").read_text())
    assert hashlib.sha256(text.encode()).hexdigest() == published["hsnet 1 5"]
    assert text.startswith("2007_000452 9 2008_000107 2007_008106 2010_001699 2011_000813 2010_004825\n")


def test_attach_verify_and_diff_work_from_the_command_line(small_voc: Path) -> None:
    fssbench("generate-episodes", "pascal5i", *SMALL, "--index", "--out", "a.index.h5")
    fssbench("attach", "a.index.h5")
    assert fssbench("verify", "a.h5").out.startswith("a.h5: all is well")
    fssbench("diff", "a.index.h5", "a.h5")
    fssbench("generate-episodes", "pascal5i", *SMALL, "--seed", "9", "--out", "b.h5")
    found = fssbench("diff", "a.h5", "b.h5", "--json", status=1).out
    assert "protocol seeds: 0 | 9" in json.loads(found)["differences"]
    damaged = bytearray(Path("a.h5").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    Path("d.h5").write_bytes(damaged)
    done = fssbench("verify", "d.h5", status=1)
    assert done.out.startswith("d.h5: ") and done.out.count("d.h5") == 1 and "1 problem:" in done.err


# What users do wrong


def test_no_data_at_the_root() -> None:
    says(refused("generate-episodes", "pascal5i"), "no PASCAL VOC 2012 at data", "--root", "FSSBENCH_DATA")


def test_an_image_that_is_listed_but_absent(small_voc: Path) -> None:
    for path in (small_voc / VOC / "JPEGImages").iterdir():
        path.unlink()
    says(refused("generate-episodes", "pascal5i", *SMALL), ".jpg: expected the image of", "the image list names")


def test_an_image_and_a_mask_of_different_size(small_voc: Path) -> None:
    for path in (small_voc / VOC / "JPEGImages").iterdir():
        Image.new("RGB", (20, 30)).save(path)
    says(refused("generate-episodes", "pascal5i", *SMALL), "image of 30 x 20 and a mask of 48 x 64")


def test_a_mask_that_is_a_colour_picture(small_voc: Path) -> None:
    Image.new("RGB", (64, 48)).save(small_voc / VOC / "SegmentationClassAug" / "2007_002003.png")
    says(refused("generate-episodes", "pascal5i", *SMALL), "2007_002003", "found mode RGB")


def test_a_truncated_photograph(small_voc: Path) -> None:
    for path in (small_voc / VOC / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    says(refused("generate-episodes", "pascal5i", *SMALL), "truncated or damaged")


def test_a_class_with_too_few_images(make_voc: Callable[..., Path]) -> None:
    make_voc({f"2007_{100 * c + i:06d}": [c] for c in range(1, 21) for i in range(4 if c == 6 else 6)})
    words = ("--episodes", "4", "--min-area", "1")
    says(refused("generate-episodes", "pascal5i", *words), "bus (class 6) has 4", "at least 6", "--skip-short-classes")
    made = fssbench("generate-episodes", "pascal5i", *words, "--skip-short-classes")
    assert "classes skipped for want of images: fold 1: bus" in made.out


def test_a_fold_that_does_not_exist(small_voc: Path) -> None:
    says(refused("generate-episodes", "pascal5i", *SMALL, "--folds", "4"), "folds 0 to 3, found fold 4")
    fssbench("generate-episodes", "pascal5i", *SMALL, "--out", "x.h5")
    says(refused("inspect", "x.h5", "--episodes", "--fold", "7"), "0, 1, 2, 3, found fold 7")


def test_an_output_that_exists(small_voc: Path) -> None:
    Path("x.h5").write_text("mine")
    says(refused("generate-episodes", "pascal5i", *SMALL, "--out", "x.h5"), "x.h5 exists", "--force")
    assert Path("x.h5").read_text() == "mine"
    fssbench("generate-episodes", "pascal5i", *SMALL, "--out", "x.h5", "--force")


@pytest.mark.parametrize("command", [("inspect",), ("verify",), ("attach",)])
def test_a_bank_that_is_no_bank(command: tuple[str], small_voc: Path) -> None:
    says(refused(*command, "none.h5"), "none.h5: expected an episode bank, found no file")
    Path("text.h5").write_text("hello, I am text")
    says(refused(*command, "text.h5"), "found a file of another kind")
    fssbench("generate-episodes", "pascal5i", *SMALL, "--out", "x.h5")
    whole = Path("x.h5").read_bytes()
    Path("cut.h5").write_bytes(whole[:-1])
    says(refused(*command, "cut.h5"), "damaged", "truncated")
    Path("flip.h5").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    says(refused(*command, "flip.h5"), "flip.h5", "checksum", "Copy the bank again")


def test_names_that_do_not_exist(small_voc: Path) -> None:
    says(refused("generate-episodes", "pascal"), "unknown data set 'pascal': did you mean 'pascal5i'")
    says(refused("generate-episodes", "pascal5i", "--protocol", "pfnet"), "did you mean 'pfenet'")
    says(refused("generate-episodes", "pascal5i", "--lists", "oslm"), "did you mean 'oslsm'")
    says(
        refused("generate-episodes", "pascal5i", "--annotations", "circle"),
        "box, scribble, point, or a worse mask",
        "'circle'",
    )


def test_options_that_contradict_each_other(small_voc: Path) -> None:
    says(refused("generate-episodes", "pascal5i", "--seed", "1", "--seeds", "2"), "--seed or --seeds")
    says(refused("generate-episodes", "pascal5i", "--protocol", "oslsm", "--ways", "2"), "knows 1 way")
    says(refused("generate-episodes", "pascal5i", *SMALL, "--ways", "6"), "at least 6 classes", "--ways")
    says(refused("generate-episodes", "pascal5i", "--split", "interleaved"), "split")


def test_panet_on_coco_is_train2014_in_consecutive_folds_and_a_subset_is_not_complete(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    objects = [entry(2 * n + p, n, (1, 62)[p], square(2 + 14 * p, 2, 9)) for n in range(4) for p in (0, 1)]
    write_coco(tmp_path / "data", objects, range(4), "train2014")  # a person (class 1) and a chair (class 57)
    words = ("--protocol", "panet", "--folds", "0", "2", "--episodes", "3", "--shots", "1", "--skip-short-classes")
    fssbench("generate-episodes", "coco20i", *words, "--out", "x.h5")
    with open_bank(tmp_path / "x.h5") as bank:
        assert (bank.pool, bank.protocol.split, bank.protocol.seeds[0]) == ("train2014", "consecutive", 1234)
        assert bank.fold_classes == {0: (1,), 2: (57,)}  # chair is class 57: fold 2 of the consecutive cut
        assert bank.note.startswith("4 of the 82081 images of the published list train2014")


def test_a_part_of_a_published_list_is_noted_in_the_bank(small_voc: Path) -> None:
    fssbench("generate-episodes", "pascal5i", *SMALL, "--out", "x.h5")
    with open_bank(Path("x.h5")) as bank:  # the 160 names of the small data are mostly made up
        assert bank.note.endswith("of the 1449 images of the published list voc-val and 159 that it has not")


def test_a_seed_that_an_authors_generator_cannot_take(small_voc: Path) -> None:
    words = ["generate-episodes", "pascal5i", "--root", str(small_voc), "--skip-short-classes"]
    says(refused(*words, "--protocol", "hsnet", "--seed", "4294967296"), "seeds up to 4294967295", "found 4294967296")
    fssbench(*words, "--seed", "4294967296", "--min-area", "100", "--episodes", "2", "--index")


def test_an_image_whose_name_is_no_text(small_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fssbench.datasets.pascal5i import Pascal5i

    whole = Pascal5i.image_ids
    for name in ("2007\udce9", "a\nb", "a|b"):
        monkeypatch.setattr(Pascal5i, "_without_novel", lambda self, fold, name=name: [name, *whole(self)])
        says(refused("generate-episodes", "pascal5i", "--root", str(small_voc)), "expected names of images", repr(name))
