"""The index banks in git are what the lists and the real masks give."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from repository import ROOT

from fssbench.banks.attach import plan_of
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, make_plan
from fssbench.banks.scan import scan
from fssbench.banks.verify import problems
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.protocols import FSSBENCH

EPISODES = ROOT / "episodes"
TABLE = dict(re.findall(r"\| `(\S+\.index\.h5)` \| `([0-9a-f]{64})` \|", (EPISODES / "README.md").read_text()))


@pytest.fixture(scope="module")
def masks(shared_material: Path) -> Path:
    path = shared_material / "data" / "voc2012_masks_aug.zip"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, the masks of VOC 2012 and SBD")
    return path


def test_every_index_in_git_is_in_the_table() -> None:
    assert sorted(TABLE) == sorted(path.name for path in EPISODES.glob("*.index.h5"))
    assert len(TABLE) >= 2


@pytest.mark.parametrize("name", TABLE)
def test_an_index_in_git_is_sound_and_has_the_fingerprint_of_the_table(name: str) -> None:
    with open_bank(EPISODES / name) as bank:
        assert list(problems(bank)) == []
        assert plan_of(bank).fingerprint == bank.fingerprint == TABLE[name]


@pytest.mark.parametrize("ways", [1, 2])
def test_an_index_in_git_holds_the_default_benchmark(ways: int) -> None:
    with open_bank(EPISODES / f"pascal5i-fssbench-{ways}way-5shot.index.h5") as bank:
        assert (bank.ways, bank.shots, bank.protocol) == (ways, 5, FSSBENCH.but(pool="voc-val"))
        for fold in range(4):
            episodes = bank.episodes(fold)
            assert len(episodes) == 1000
            if ways == 1:
                assert Counter(episodes.classes[:, 0].tolist()) == dict.fromkeys(range(5 * fold + 1, 5 * fold + 6), 200)


def test_the_real_masks_give_the_index_in_git(masks: Path) -> None:
    plan = make_plan(Pascal5i(masks), Request(FSSBENCH, shots=(5,)))
    assert plan.fingerprint == TABLE["pascal5i-fssbench-1way-5shot.index.h5"]


def test_the_real_masks_hold_the_published_numbers_of_pairs(masks: Path) -> None:
    data = Pascal5i(masks)
    facts = scan(data, data.image_ids())

    def pairs(least: int) -> list[int]:
        return [sum(f.areas.get(c, 0) >= least for f in facts.values() for c in fold) for fold in data.folds]

    assert (pairs(1), pairs(2048)) == ([440, 514, 804, 390], [365, 467, 734, 357])  # counted by others
    listed = Pascal5i(masks, pool="hsnet")
    assert [len(listed.pairs(fold) or ()) for fold in range(4)] == [346, 451, 725, 346]
    for fold in range(4):  # every listed pair shows its class
        assert all(class_id in facts[image].areas for image, class_id in listed.pairs(fold) or ())


@pytest.mark.slow
def test_dropping_novel_classes_leaves_the_published_numbers_of_training_pairs(masks: Path) -> None:
    data = Pascal5i(masks, pool="train-oslsm-no-novel")
    pairs = [data.pairs(fold) or () for fold in range(4)]
    assert [len(fold) for fold in pairs] == [10062, 8272, 5129, 10274]  # counted by others
    assert [len({image for image, _ in fold}) for fold in pairs] == [7509, 6604, 4687, 7999]
