"""A step waits for the device once: counted on the CPU, by operations that would wait for an accelerator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_methods
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fssbench.banks.bank import open_bank
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluation import evaluate_method
from fssbench.engine.sources import BankImages

# What needs values on the host, or a result whose size depends on values.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::bincount", "aten::masked_select", "aten::equal"}
TO_THE_HOST = {torch.Tensor.cpu, torch.Tensor.tolist}


class _Operations(TorchDispatchMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        masks = name == "aten::index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in WAITING or masks:
            self._seen.append(name)
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TO_THE_HOST or (func is torch.Tensor.to and "cpu" in args[1:]):
            self._seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    """What would have waited for the device."""
    seen: list[str] = []
    with _Operations(seen), _Copies(seen):
        yield seen


@pytest.mark.parametrize("method", ["Toy", "ToyMaps", "ToyVote"])
def test_a_step_waits_for_the_device_once(bank: Path, monkeypatch: Any, method: str) -> None:
    cls, steps = getattr(toy_methods, method), []
    plain = cls.segment

    def watched(self: Any, episodes: Any) -> Any:
        steps.append(episodes.size)
        return plain(self, episodes)

    monkeypatch.setattr(cls, "segment", watched)
    built, _ = build_method(MethodSpec(f"toy_methods:{method}", weights="random"), 0)
    with open_bank(bank) as opened, waits() as seen:
        evaluate_method(built, opened, 5)
    assert max(size[0] for size in steps) > 1
    assert seen == ["cpu"] * len(steps)


def test_masks_that_are_saved_are_copied_and_others_are_not(run: Any) -> None:
    with waits() as seen:
        run("Toy", folds=(0,), save_predictions=True)
    assert seen.count("to") == 20  # one an episode


def test_truths_are_decoded_on_a_thread_while_features_are_made(run: Any, monkeypatch: Any) -> None:
    begun, threads, in_time = threading.Event(), set(), []
    decoded = BankImages.query_truth

    def watched(self: BankImages, image: int, classes: Any) -> Any:
        threads.add(threading.current_thread())
        begun.set()
        return decoded(self, image, classes)

    def project(self: Any, features: Any) -> Any:
        in_time.append(begun.wait(0.5))
        return features

    monkeypatch.setattr(BankImages, "query_truth", watched)
    monkeypatch.setattr(toy_methods.Toy, "project", project)
    run("Toy", folds=(0,), head_batch=100)  # all in one step, whose features are made before anything is marked
    assert in_time[-1]
    assert threads
    assert threading.main_thread() not in threads
