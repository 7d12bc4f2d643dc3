"""What failed, for want of memory or by a bug, pins no tensor."""

from __future__ import annotations

import multiprocessing
import resource
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import toy_methods
from toy_runs import frames

from fssbench.engine.devices import in_parts
from fssbench.records import read_record


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


def test_a_method_that_failed_leaves_no_tensor_behind(run: Any, monkeypatch: Any) -> None:
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


ROOM, EACH = 450 << 20, 100 << 20  # bytes that the process may still take, and that an episode takes


def _starved(run: Any, out: Path, log: Path) -> None:
    """A run in a process that really has no memory for the batch it begins with."""
    plain = toy_methods.Toy.segment

    def hungry(self: Any, episodes: Any) -> torch.Tensor:
        with log.open("a") as file:
            file.write(f"{episodes.size[0]} ")
        held = [torch.ones(EACH // 4) for _ in range(episodes.size[0])]
        return plain(self, episodes) + 0 * sum(one[0] for one in held)

    toy_methods.Toy.segment = hungry  # type: ignore[method-assign]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))
    run("Toy", out=out, folds=(0,))


def test_a_process_without_memory_for_a_batch_goes_on_with_smaller_ones(run: Any, tmp_path: Path) -> None:
    whole = frames(run("Toy", out=tmp_path, folds=(0,)))[0]
    log = tmp_path / "sizes"
    child = multiprocessing.get_context("fork").Process(target=_starved, args=(run, tmp_path / "starved", log))
    child.start()
    child.join()
    first, *later = map(int, log.read_text().split())
    assert first * EACH > ROOM
    assert sum(size for size in later if size * EACH < ROOM) >= 20  # every episode, in batches that may fit
    (record,) = (tmp_path / "starved").rglob("run.json")
    pd.testing.assert_frame_equal(read_record(record.parent).episodes, whole)
