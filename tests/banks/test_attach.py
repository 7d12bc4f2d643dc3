"""An index bank binds to a copy of its data, or says in what that copy differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.banks.attach import attach
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.text import episode_lines
from fssbench.banks.verify import problems
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import BankError, DataError
from fssbench.protocols import FSSBENCH

REQUEST = Request(FSSBENCH.but(episodes=6, min_area=100), shots=(2,), annotations=("box",), auxiliary=1)
VOC = "VOCdevkit/VOC2012"


@pytest.fixture
def index(small_voc: Path, tmp_path: Path) -> Path:
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "a.index.h5", index=True)
    return tmp_path / "a.index.h5"


def bind(index: Path, root: Path, out: Path) -> None:
    with open_bank(index) as bank:
        attach(bank, Pascal5i(root), out)


def test_an_attached_bank_is_the_bank_that_generating_gives(index: Path, small_voc: Path, tmp_path: Path) -> None:
    bind(index, small_voc, tmp_path / "attached.h5")
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "generated.h5")
    assert (tmp_path / "attached.h5").read_bytes() == (tmp_path / "generated.h5").read_bytes()
    with open_bank(tmp_path / "attached.h5") as bank, open_bank(index) as small:
        assert bank.fingerprint == small.fingerprint
        assert list(episode_lines(bank, 3)) == list(episode_lines(small, 3))
        assert list(problems(bank)) == []


def used(index: Path, count: int) -> list[str]:
    with open_bank(index) as bank:
        return bank.image_ids[:count]


def test_everything_that_differs_is_listed(index: Path, small_voc: Path, tmp_path: Path) -> None:
    absent, repainted, replaced, resized, unmasked = used(index, 5)
    (small_voc / VOC / "JPEGImages" / f"{absent}.jpg").unlink()
    mask = small_voc / VOC / "SegmentationClassAug" / f"{repainted}.png"
    labels = np.array(Image.open(mask))
    labels[0, 0] = 9
    Image.fromarray(labels).save(mask)
    Image.new("RGB", (64, 48), (9, 9, 9)).save(small_voc / VOC / "JPEGImages" / f"{replaced}.jpg")
    Image.new("RGB", (60, 48)).save(small_voc / VOC / "JPEGImages" / f"{resized}.jpg")
    (small_voc / VOC / "SegmentationClassAug" / f"{unmasked}.png").unlink()
    with pytest.raises(DataError, match="found 5 differences") as caught:
        bind(index, small_voc, tmp_path / "out.h5")
    lines = [line.strip() for line in str(caught.value).splitlines()[1:6]]
    assert [line.partition(":")[0] for line in lines] == [absent, repainted, replaced, resized, unmasked]
    for line, what in zip(
        lines, ("found no file", "another mask", "another image file", "48 x 60", "mask"), strict=True
    ):
        assert what in line
    assert not (tmp_path / "out.h5").exists()


def test_a_grey_copy_of_the_masks_is_as_good(index: Path, small_voc: Path, tmp_path: Path) -> None:
    for path in (small_voc / VOC / "SegmentationClassAug").iterdir():
        Image.fromarray(np.array(Image.open(path))).save(path)
    bind(index, small_voc, tmp_path / "out.h5")
    with open_bank(tmp_path / "out.h5") as bank, open_bank(index) as small:
        assert bank.fingerprint == small.fingerprint


def test_what_exists_is_not_overwritten(index: Path, small_voc: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_text("mine")
    with pytest.raises(BankError, match="--force"):
        bind(index, small_voc, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_text() == "mine"
