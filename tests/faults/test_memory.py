"""What failed, for want of memory or by a bug, pins no tensor."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
import toy_methods
from toy_runs import frames

from fssbench.engine.devices import in_parts


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
