"""The way to a paper's table: which commands, which of them are done, and what --run does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import fssbench

from fssbench.errors import UsageError
from fssbench.reproduce import Step, Wish, take, way

Voc = Callable[..., Path]


@pytest.fixture
def wish(tmp_path: Path, make_voc: Voc) -> Wish:
    """CANet on a small VOC whose objects its protocol lets through."""
    images = {f"2007_{10 * c + i:06d}": [c] for c in range(1, 21) for i in range(7)}
    return Wish("canet", root=make_voc(images), episodes=tmp_path / "episodes",
                checkpoints=tmp_path / "checkpoints", results=tmp_path / "results")  # fmt: skip


def states(wish: Wish) -> dict[str, bool]:
    return {step.what: step.done for step in way(wish)}


def test_the_way_goes_from_data_to_the_table_and_every_command_exists(wish: Wish) -> None:
    steps = way(wish)
    assert [step.what for step in steps] == [
        "data", "bank, 1-way", *(f"checkpoint, fold {fold}" for fold in range(4)),
        "run, supports as mask", "run, supports as box", "table",
    ]  # fmt: skip
    assert [step.done for step in steps] == [True] + [False] * 8
    for step in steps:
        fssbench(step.command[0], "--help")


def test_data_that_is_not_there_is_to_be_downloaded(tmp_path: Path) -> None:
    first = way(Wish("canet", root=tmp_path, episodes=tmp_path, checkpoints=tmp_path, results=tmp_path))[0]
    assert (first.done, first.command[:2]) == (False, ("download", "pascal5i"))
    assert str(tmp_path) in first.remark


def test_banks_and_checkpoints_that_lie_there_are_done(wish: Wish) -> None:
    bank = way(wish)[1]
    fssbench(*bank.command, "--episodes", "5", "--lists", "voc-val", "--workers", "1")
    assert states(wish)["bank, 1-way"]
    assert not states(replace(wish, protocol="pfenet"))["bank, 1-way"]
    best = wish.checkpoints / "canet-resnet50-pascal5i-fold2" / "best.safetensors"
    best.parent.mkdir(parents=True)
    best.touch()
    assert [fold for fold in range(4) if states(wish)[f"checkpoint, fold {fold}"]] == [2]
    assert not states(replace(wish, backbone="vgg16"))["checkpoint, fold 2"]


def test_only_what_is_not_done_runs_and_a_failure_stops_the_way() -> None:
    ran: list[str] = []

    def execute(command: Sequence[str]) -> int:
        ran.append(command[0])
        return 2 if command[0] == "c" else 0

    steps = [Step(name, (name,), done=name == "b") for name in "abcd"]
    assert take(steps, execute) == 2
    assert ran == ["a", "c"]


def test_a_method_without_anything_to_train_needs_no_checkpoint(wish: Wish) -> None:
    steps = way(replace(wish, method="gfsam"))
    assert not any(step.what.startswith("checkpoint") for step in steps)
    assert "--weights" not in next(step.command for step in steps if step.command[0] == "run")


def test_ways_are_banks_of_their_own_and_unnested_shots_are_drawn_each(wish: Wish) -> None:
    banks = [step.command for step in way(replace(wish, method="panet")) if step.what.startswith("bank")]
    assert [command[command.index("--ways") + 1] for command in banks] == ["1", "2"]
    (pmms,) = [step.command for step in way(replace(wish, method="rpmms")) if step.what.startswith("bank")]
    assert pmms[pmms.index("--shots") + 1 : pmms.index("--shots") + 3] == ("1", "5")


def test_a_data_set_that_the_paper_has_no_table_on_is_refused(wish: Wish) -> None:
    with pytest.raises(UsageError, match="tables are on"):
        way(replace(wish, dataset="fss1000"))
