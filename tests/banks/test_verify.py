"""Verifying finds what a wrong program could have written, not only what a disk can damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fssbench.banks.bank import open_bank
from fssbench.banks.compare import differences
from fssbench.banks.generate import Request, generate, make_plan, write_plan
from fssbench.banks.sampling import Episodes
from fssbench.banks.verify import problems
from fssbench.banks.writer import Plan
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.protocols import FSSBENCH

REQUEST = Request(FSSBENCH.but(episodes=6, min_area=100), shots=(2,), folds=(0, 1), annotations=("point",))


@pytest.fixture
def plan(small_voc_original: Path) -> Plan:
    return make_plan(Pascal5i(small_voc_original), REQUEST)


def found(root: Path, plan: Plan, path: Path) -> list[str]:
    write_plan(Pascal5i(root), plan, path)
    with open_bank(path) as bank:
        return list(problems(bank))


def test_a_sound_bank_has_no_problems(small_voc_original: Path, plan: Plan, tmp_path: Path) -> None:
    assert found(small_voc_original, plan, tmp_path / "bank.h5") == []


def test_a_query_among_its_supports_is_found(small_voc_original: Path, plan: Plan, tmp_path: Path) -> None:
    episodes = plan.episodes[0, 2]
    wrong = replace(episodes, query=episodes.support[:, 0, 0].copy())
    lines = found(small_voc_original, replace(plan, episodes={**plan.episodes, (0, 2): wrong}), tmp_path / "bank.h5")
    assert lines == ["fold 0, 2 shots: a query among its supports"]


def test_a_repeated_support_is_found(small_voc_original: Path, plan: Plan, tmp_path: Path) -> None:
    episodes = plan.episodes[1, 2]
    wrong = replace(episodes, support=np.repeat(episodes.support[:, :, :1], 2, axis=2))
    # Every pair must have its annotation, so none is asked for here.
    without = replace(plan, episodes={**plan.episodes, (1, 2): wrong}, annotations={})
    assert found(small_voc_original, without, tmp_path / "bank.h5") == [
        "fold 1, 2 shots: 6 episodes with one support twice"
    ]


def test_a_class_of_another_fold_and_an_image_that_is_not_there_are_found(
    small_voc_original: Path, plan: Plan, tmp_path: Path
) -> None:
    episodes = plan.episodes[0, 2]
    wrong = replace(episodes, classes=episodes.classes + 10, query=episodes.query + 10_000)
    without = replace(plan, episodes={**plan.episodes, (0, 2): wrong}, annotations={})
    line, *_ = found(small_voc_original, without, tmp_path / "bank.h5")
    assert "folds/0/2/query: expected 0 to" in line
    foreign = replace(plan, episodes={**plan.episodes, (0, 2): replace(wrong, query=episodes.query)}, annotations={})
    line, *_ = found(small_voc_original, foreign, tmp_path / "b.h5")
    assert "folds/0/2: expected episodes of the fold's classes" in line


def test_a_bank_with_fewer_episodes_than_its_protocol_says_is_found(
    small_voc_original: Path, plan: Plan, tmp_path: Path
) -> None:
    whole = plan.episodes[0, 2]
    short = Episodes(whole.classes[:-1], whole.support[:-1], whole.query[:-1], whole.run[:-1], whole.group[:-1])
    wrong = replace(plan, episodes={**plan.episodes, (0, 2): short}, annotations={})
    line, *_ = found(small_voc_original, wrong, tmp_path / "bank.h5")
    assert line.startswith("fold 0, 2 shots: expected 6 queries, each with as many draws of supports, found 5")


def test_one_class_in_two_ways_is_found(small_voc_original: Path, tmp_path: Path) -> None:
    plan = make_plan(Pascal5i(small_voc_original), replace(REQUEST, ways=2, annotations=()))
    doubled = replace(plan.episodes[0, 2], classes=plan.episodes[0, 2].classes[:, [0, 0]])
    lines = found(small_voc_original, replace(plan, episodes={**plan.episodes, (0, 2): doubled}), tmp_path / "bank.h5")
    assert "fold 0, 2 shots: 6 episodes with one class in two ways" in lines


def test_classes_that_are_not_drawn_equally_often_are_found(
    small_voc_original: Path, plan: Plan, tmp_path: Path
) -> None:
    one = replace(plan.episodes[0, 2], classes=np.full_like(plan.episodes[0, 2].classes, 1))
    one.classes[0] = 2
    wrong = replace(plan, episodes={**plan.episodes, (0, 2): one}, annotations={})
    lines = found(small_voc_original, wrong, tmp_path / "bank.h5")
    assert "fold 0, 2 shots: run 0: the protocol draws every class equally often, found 1 to 5" in lines


def test_supports_and_queries_that_do_not_show_their_class_are_found(
    small_voc_original: Path, plan: Plan, tmp_path: Path
) -> None:
    rotated = replace(plan.episodes[0, 2], classes=plan.episodes[0, 2].classes % 5 + 1)  # the next class of the fold
    wrong = replace(plan, episodes={**plan.episodes, (0, 2): rotated}, annotations={})
    lines = found(small_voc_original, wrong, tmp_path / "bank.h5")
    assert any("supports with less than 100 px of their class" in line for line in lines)
    assert any("queries with less than 100 px of their class" in line for line in lines)


def test_an_object_below_the_area_filter_is_found(small_voc_original: Path, plan: Plan, tmp_path: Path) -> None:
    stricter = replace(plan, protocol=plan.protocol.but(min_area=100_000))
    lines = found(small_voc_original, stricter, tmp_path / "bank.h5")
    assert any("supports with less than 100000 px of their class" in line for line in lines)


@pytest.mark.parametrize("index", [False, True])
def test_one_picture_as_query_and_support_is_found(small_voc: Path, plan: Plan, tmp_path: Path, index: bool) -> None:
    episodes = plan.episodes[0, 2]
    query, support = (plan.image_ids[int(i)] for i in (episodes.query[3], episodes.support[3, 0, 1]))
    folder = small_voc / "VOCdevkit/VOC2012/JPEGImages"
    (folder / f"{support}.jpg").write_bytes((folder / f"{query}.jpg").read_bytes())
    write_plan(Pascal5i(small_voc), plan, tmp_path / "bank.h5", index=index)
    with open_bank(tmp_path / "bank.h5") as bank:
        line, *others = problems(bank)
    assert line.startswith("fold 0, 2 shots: ")
    assert line.endswith(f"episodes with one picture as query and support: {query} is {support}")
    assert others == []


def test_two_banks_are_compared_by_what_matters(small_voc_original: Path, tmp_path: Path) -> None:
    data = Pascal5i(small_voc_original)
    generate(data, REQUEST, tmp_path / "a.h5")
    generate(data, REQUEST, tmp_path / "a.index.h5", index=True)
    generate(data, replace(REQUEST, protocol=REQUEST.protocol.but(seeds=(3,))), tmp_path / "b.h5")
    generate(data, replace(REQUEST, shots=(1,), folds=(0,), annotations=()), tmp_path / "c.h5")
    with open_bank(tmp_path / "a.h5") as a:
        with open_bank(tmp_path / "a.index.h5") as index:
            assert list(differences(a, index)) == []
        with open_bank(tmp_path / "b.h5") as b:
            lines = list(differences(a, b))
            assert "protocol seeds: 0 | 3" in lines
            assert any(line.startswith("fold 0, 2 shots: 6 episodes differ") for line in lines)
        with open_bank(tmp_path / "c.h5") as c:
            lines = list(differences(a, c))
            assert "annotations point: rule 1 seed 0 | absent" in lines
            assert "classes of fold 1: 6 7 8 9 10 | absent" in lines
            assert "fold 0, 1 shots: only in the second" in lines
            assert "fold 1, 2 shots: only in the first" in lines


def test_another_mask_is_seen_by_a_comparison(small_voc: Path, tmp_path: Path) -> None:
    from PIL import Image

    generate(Pascal5i(small_voc), REQUEST, tmp_path / "a.h5", index=True)
    with open_bank(tmp_path / "a.h5") as bank:
        image_id = bank.image_ids[0]
    mask = small_voc / "VOCdevkit/VOC2012/SegmentationClassAug" / f"{image_id}.png"
    labels = np.array(Image.open(mask))
    labels[0, 0] = 20
    Image.fromarray(labels).save(mask)
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "b.h5", index=True)
    with open_bank(tmp_path / "a.h5") as a, open_bank(tmp_path / "b.h5") as b:
        assert list(differences(a, b)) == [f"masks: 1 differ, e.g. {image_id}"]
