"""Running out of memory halves the batch, loses no episode, and pins nothing."""

from __future__ import annotations

import multiprocessing
import resource
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import toy_methods
from toy_runs import frames

from fssbench.engine.devices import in_parts

MB = 1 << 20


def _starved(run: Any, out: Path, room: int, options: dict[str, Any]) -> None:
    """Run ToyHungry in a process that may take `room` bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    (outcome,) = run("ToyHungry", out=out, workers=1, folds=(0,), **options)
    raise SystemExit(outcome.message)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: the size of a process")
@pytest.mark.parametrize("options", [{"head_batch": 8}, {"encode_batch": 16}], ids=str)
def test_a_process_short_of_memory_counts_what_a_rich_one_counts(run: Any, tmp_path: Path, options: dict) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_starved, args=(run, tmp_path / "starved", 450 * MB, options)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    (poor,) = [path.parent for path in (tmp_path / "starved").rglob("episodes.csv")]
    (rich,) = run("Toy", out=tmp_path / "rich", folds=(0,))
    pd.testing.assert_frame_equal(pd.read_csv(poor / "episodes.csv"), pd.read_csv(rich.folder / "episodes.csv"))


def test_what_a_failed_part_made_is_gone_before_the_next_try() -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    done: list[int] = []
    told: list[int] = []

    def work(items: Sequence[int], size: int) -> None:
        assert not [ref for ref in made if ref() is not None]
        tensor = torch.zeros(4)
        made.append(weakref.ref(tensor))
        if len(items) > 2:
            raise torch.OutOfMemoryError("out of memory")
        done.extend(items)

    assert in_parts(range(9), 7, work, told.append) == 1
    assert done == list(range(9))
    assert told == [3, 1]


def test_a_method_that_failed_leaves_no_tensor_behind(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def failing(self: Any, episodes: Any) -> torch.Tensor:
        held = episodes.query["c1"] * 2
        made.append(weakref.ref(held))
        raise RuntimeError("a bug")

    monkeypatch.setattr(toy_methods.ToyRaises, "segment", failing)
    alive: list[bool] = []
    plain = toy_methods.ToySlow.segment

    def watched(self: Any, episodes: Any) -> torch.Tensor:
        alive.append(any(ref() is not None for ref in made))
        return plain(self, episodes)

    monkeypatch.setattr(toy_methods.ToySlow, "segment", watched)
    failed, fine = run("ToyRaises", "ToySlow", folds=(0,))
    assert "RuntimeError: a bug" in failed.message
    assert len(frames([fine])[0]) == 20
    assert made
    assert not any(alive)
