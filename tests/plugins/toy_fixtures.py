"""Banks and runs for tests of the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_records
import torch
import toy_data
from trees import save

from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import Outcome, RunRequest, run_methods
from fssbench.records import Record

Runner = Callable[..., list[Outcome]]


class Listener:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.done = 0

    def total(self, episodes: int, done: int) -> None:
        self.episodes, self.already = episodes, done

    def advance(self, episodes: int) -> None:
        self.done += episodes

    def say(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1-way, 5 shots, 2 folds of 20 episodes."""
    return toy_data.make_bank(tmp_path_factory.mktemp("banks") / "toy.h5")


@pytest.fixture(scope="session")
def two_way_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2-way, 3 shots, 2 folds of 8 episodes."""
    return toy_data.make_bank(tmp_path_factory.mktemp("banks") / "toy2.h5", episodes=8, ways=2, shots=3)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """`synthetic_records.make_record`."""
    return synthetic_records.make_record


@pytest.fixture
def listener() -> Listener:
    """What a run says."""
    return Listener()


@pytest.fixture
def run(bank: Path, tmp_path: Path, listener: Listener) -> Runner:
    """Run toy methods; keyword arguments are those of `RunRequest` and `Settings`."""

    def go(*methods: str, out: Path = tmp_path / "results", **options: Any) -> list[Outcome]:
        specs = [MethodSpec(f"toy_methods:{name}", weights="random") for name in methods or ("Toy",)]
        of_request = {k: options.pop(k) for k in list(options) if k in ("shots", "folds", "force", "save_predictions")}
        path = options.pop("bank", bank)
        settings = Settings(device=torch.device("cpu"), **options)
        return run_methods(RunRequest(specs, path, settings, out=out, **of_request), listener)

    return go


@pytest.fixture(scope="session")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 40 x 40 px; each shows one class as a coloured square, with a strip of void of varying height."""
    root = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(0)
    for number in range(48):
        class_id = 1 + number % 4
        pixels = draw.integers(0, 120, (40, 40, 3)).astype(np.uint8)
        labels = np.zeros((40, 40), np.uint8)
        top, left = draw.integers(2, 18, 2)
        pixels[top : top + 16, left : left + 16, class_id % 3] += 120
        labels[top : top + 16, left : left + 16] = class_id
        labels[38 - number % 12 :] = 255
        save(root / "images" / f"{number:02}.png", pixels)
        save(root / "masks" / f"{number:02}.png", labels)
    (root / "dataset.toml").write_text(
        'images = "images"\nmasks = "masks"\nformat = "label-map"\nmin_area = 20\n'
        "[classes]\na = 1\nb = 2\nc = 3\nd = 4\n[folds]\n0 = ['a', 'b']\n1 = ['c', 'd']\n"
    )
    return root
