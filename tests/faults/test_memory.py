"""What failed, for want of memory or by a bug, pins no tensor."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import toy_methods
from command_line import fresh
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


STARVED = """
import os, resource, sys
from pathlib import Path
import torch, toy_methods
from toy_fixtures import Listener
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest, run_methods

bank, out = map(Path, sys.argv[1:])
EACH = 256 << 20  # bytes that an episode takes: of addresses, which the limit counts, not of memory

def run(name):
    specs = [MethodSpec("toy_methods:Toy", weights="random")]
    request = RunRequest(specs, bank, Settings(torch.device("cpu")), folds=(0,), out=out / name)
    (outcome,) = run_methods(request, Listener())
    assert outcome.state == "finished", outcome.message

def hungry(self, episodes, plain=toy_methods.Toy.segment):
    print(episodes.size[0], flush=True)
    held = [torch.empty(EACH, dtype=torch.uint8) for _ in range(episodes.size[0])]
    return plain(self, episodes)

run("whole")  # and everything is imported
toy_methods.Toy.segment = hungry
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 5 * EACH // 2, resource.RLIM_INFINITY))
run("starved")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit no process's addresses")
def test_a_process_without_memory_for_a_batch_goes_on_with_smaller_ones(bank: Path, tmp_path: Path) -> None:
    # A process of its own, in which nothing but the episodes takes much: an arena or a thread's stack is 8 to 128 MB.
    starved = [sys.executable, "-c", STARVED, str(bank), str(tmp_path)]
    done = fresh(starved, MALLOC_ARENA_MAX="1")
    sizes = [int(size) for size in done.out.split()]
    assert sizes[0] > 2
    assert sum(size for size in sizes if size <= 2) >= 20  # every episode, in batches that fit
    whole, starved = (read_record(next((tmp_path / name).rglob("run.json")).parent) for name in ("whole", "starved"))
    pd.testing.assert_frame_equal(starved.episodes, whole.episodes)
