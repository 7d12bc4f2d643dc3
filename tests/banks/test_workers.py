"""Several processes make the same bank as one, and fail as one does."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toy_data import BrokenDataset, ToyDataset, Travels
from trees import entry, square, write_coco

from fssbench.banks.attach import attach
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.banks.workers import spread
from fssbench.datasets.base import Dataset
from fssbench.datasets.coco20i import Coco20i
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import DataError, UsageError
from fssbench.protocols import FSSBENCH


def voc(root: Path, small_voc_original: Path) -> tuple[Dataset, Request]:
    changed = FSSBENCH.but(episodes=40, min_area=100)
    return Pascal5i(small_voc_original), Request(changed, (2,), folds=(0, 3), annotations=("point", "box"))


def coco(root: Path, small_voc_original: Path) -> tuple[Dataset, Request]:
    pytest.importorskip("pycocotools")
    changed = FSSBENCH.but(episodes=40, min_area=20)
    objects = [
        entry(2 * n + place, n, 1 + (n + 3 * place) % 8, square(2 + 14 * place, 3 + n % 5, 10))
        for n in range(1, 49) for place in range(2)
    ]  # fmt: skip
    made = write_coco(root / "coco", objects, range(1, 49), size=(24, 32))
    return Coco20i(made), Request(changed, (1,), folds=(0,), annotations=("box",), skip_short=True)


@pytest.mark.parametrize("made", [voc, coco])
def test_one_and_two_processes_write_the_same_bytes(made: Any, small_voc_original: Path, tmp_path: Path) -> None:
    data, request = made(tmp_path, small_voc_original)
    generate(data, request, tmp_path / "index.h5", index=True)
    for workers in (1, 2):
        generate(data, request, tmp_path / f"{workers}.h5", workers=workers)
        with open_bank(tmp_path / "index.h5") as index:
            attach(index, data, tmp_path / f"attached-{workers}.h5", workers=workers)
    alone = (tmp_path / "1.h5").read_bytes()
    for name in ("2.h5", "attached-1.h5", "attached-2.h5"):
        assert (tmp_path / name).read_bytes() == alone
    with open_bank(tmp_path / "1.h5") as bank:
        assert list(problems(bank, workers=2)) == []


def test_what_differs_is_listed_alike_by_several_processes(small_voc: Path, tmp_path: Path) -> None:
    data, request = voc(tmp_path, small_voc)
    generate(data, request, tmp_path / "index.h5", index=True)
    folder = small_voc / "VOCdevkit/VOC2012/JPEGImages"
    said = []
    with open_bank(tmp_path / "index.h5") as index:
        for image_id in (index.image_ids[3], index.image_ids[-1]):
            Image.new("RGB", (8, 8)).save(folder / f"{image_id}.jpg")
        for workers in (1, 2):
            with pytest.raises(DataError, match="found 2 differences") as caught:
                attach(index, data, tmp_path / "out.h5", workers=workers)
            said.append(str(caught.value))
    assert said[0] == said[1]
    assert not (tmp_path / "out.h5").exists()


def test_a_damaged_bank_is_told_of_alike_by_several_processes(small_voc_original: Path, tmp_path: Path) -> None:
    data, request = voc(tmp_path, small_voc_original)
    generate(data, request, tmp_path / "a.h5")
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    with open_bank(tmp_path / "a.h5") as bank:
        for i in (2, 40):
            place = raw.find(bank.image_bytes(i)[200:400])
            raw[place + 50] ^= 1
    (tmp_path / "a.h5").write_bytes(raw)
    with open_bank(tmp_path / "a.h5") as bank:
        alone = list(problems(bank))
    with open_bank(tmp_path / "a.h5") as bank:
        assert list(problems(bank, workers=2)) == alone
    assert len(alone) >= 1


def test_bad_data_give_the_message_of_one_process(tmp_path: Path) -> None:
    request = Request(FSSBENCH.but(episodes=10, min_area=20), (1,))
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"^t47 is damaged$"):
            generate(BrokenDataset(), request, tmp_path / "a.h5", workers=workers)


def test_a_process_that_is_killed_is_one_message(tmp_path: Path) -> None:
    request = Request(FSSBENCH.but(episodes=10, min_area=20), (1,))
    with pytest.raises(DataError, match=r"one that was killed.*--workers"):
        generate(BrokenDataset(deadly=True), request, tmp_path / "a.h5", workers=2)


def test_data_that_cannot_travel_are_refused_with_the_way_out(tmp_path: Path) -> None:
    data = ToyDataset(48)
    data.reader = lambda: None  # type: ignore[attr-defined]
    request = Request(FSSBENCH.but(episodes=10, min_area=20), (1,))
    with pytest.raises(DataError, match=r"ToyDataset.*cannot travel|--workers 1"):
        generate(data, request, tmp_path / "a.h5", workers=2)
    generate(data, request, tmp_path / "a.h5", workers=1)


def test_a_source_travels_once_however_many_items_there_are() -> None:
    Travels.packed = 0
    assert list(spread(operator.ne, Travels(), range(100), "x", workers=2, chunk=10)) == [True] * 100
    assert Travels.packed == 1


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1 worker, found 0"):
        generate(ToyDataset(), Request(FSSBENCH), tmp_path / "a.h5", workers=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bar_counts_what_was_taken_and_results_come_in_order(workers: int) -> None:
    counted: list[int] = []

    def bar(items: Any, what: str) -> Any:
        for item in items:
            yield item
            counted.append(item)

    results = spread(max, 5, range(100), "x", workers=workers, progress=bar)
    assert next(results) == 5
    assert len(counted) <= 1
    assert list(results) == [max(5, i) for i in range(1, 100)]
    assert counted == list(range(100))
