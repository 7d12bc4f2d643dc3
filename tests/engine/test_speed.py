"""What `fssbench speed` says: figures that can be checked against the bank and against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_methods
from PIL import Image
from torch import Tensor

from fssbench.banks.bank import open_bank
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluate import Settings
from fssbench.engine.speed import Speed, measure
from fssbench.method import EpisodeBatch, Features, SupportBatch

CPU = Settings(torch.device("cpu"))


@pytest.fixture(scope="module")
def measured(bank: Path) -> Speed:
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    with open_bank(bank) as opened:
        return measure(opened, 0, "toy", method, [1, 5], CPU, episodes=12, off_episodes=3)


def test_the_floor_counts_every_image_that_the_episodes_name_once(measured: Speed, bank: Path) -> None:
    with open_bank(bank) as opened:
        episodes = opened.episodes(0)
        named = np.union1d(episodes.query[:12], episodes.support[:12])
    assert (measured.episodes, measured.distinct_images) == (12, len(named))


class Ticking(toy_methods.Toy):
    """Moves a clock of its own: 3 s an image, 2 s a support, 7 s a shot of an episode."""

    now = 0

    def encode(self, images: Tensor) -> Features:
        Ticking.now += 3 * len(images)
        return super().encode(images)

    def encode_support(self, support: SupportBatch) -> Features:
        Ticking.now += 2 * len(support.labels)
        return super().encode_support(support)

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        Ticking.now += 7 * episodes.size[0] * episodes.size[2]
        return super().segment(episodes)


def test_on_a_clock_that_only_the_method_moves_every_figure_is_known(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fssbench.engine.speed.time", SimpleNamespace(perf_counter=lambda: Ticking.now))
    method = Ticking(toy_methods.ToyConfig()).eval()
    with open_bank(bank) as opened:
        found = measure(opened, 0, "toy", method, [1, 5], CPU, episodes=12, off_episodes=3)
        drawn = opened.episodes(0)
        query, support, classes = (
            drawn.query[:12].tolist(),
            drawn.support[:12, 0].tolist(),
            drawn.classes[:12, 0].tolist(),
        )
    images = {k: len({*query, *(image for row in support for image in row[:k])}) for k in (1, 5)}
    pairs = {k: {(image, c) for row, c in zip(support, classes, strict=True) for image in row[:k]} for k in (1, 5)}
    supports = {k: len(pairs[k]) for k in (1, 5)}
    assert (found.encode_each, found.pool_each, found.head_each) == (3, 2, {1: 7, 5: 35})
    assert found.floor == 3 * images[5] + 2 * supports[5] + 12 * (7 + 35)
    # Which features the first query and support have is learnt first; for others of theirs they are encoded once more.
    of_query = {k: any(image == query[0] for image, _ in pairs[k]) for k in (1, 5)}
    of_support = {k: support[0][0] in query or sum(image == support[0][0] for image, _ in pairs[k]) > 1 for k in (1, 5)}
    once_more = {k: 3 * (of_query[k] + of_support[k]) for k in (1, 5)}
    assert found.total == found.floor + once_more[5]
    assert found.ratio == found.total / found.floor
    assert found.episodes_per_second == 24 / found.total
    assert found.on == {
        shot: 3 * images[shot] + 2 * supports[shot] + 12 * 7 * shot + once_more[shot] for shot in (1, 5)
    }


def test_the_phases_add_up_to_the_whole_run(measured: Speed) -> None:
    timed = sum(seconds for phase, seconds in measured.phases.items() if phase != "rest")
    assert timed <= 1.05 * measured.total
    assert measured.phases["rest"] == pytest.approx(max(0.0, measured.total - timed), abs=1e-6)
    assert {"decode", "encode", "head", "score", "rest"} <= set(measured.phases)


def test_counts_are_the_same_with_the_cache_off(measured: Speed) -> None:
    assert measured.off_counts_equal
    assert set(measured.off) == set(measured.on) == {1, 5}


def test_features_fit_into_the_memory_that_the_process_held(measured: Speed) -> None:
    assert 0 < measured.cache_peak_bytes < measured.peak_memory_bytes


def test_everything_can_be_written_as_json(measured: Speed) -> None:
    assert json.loads(json.dumps(measured.to_json()))["ratio"] == measured.ratio


class Looking(Ticking):
    """Its head takes a second for each pixel of the supports' objects."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        logits = toy_methods.Toy.segment(self, episodes)
        Ticking.now += int((episodes.support_labels == 1).sum())
        return logits


def test_heads_are_timed_on_the_objects_of_the_run(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fssbench.engine.speed.time", SimpleNamespace(perf_counter=lambda: Ticking.now))
    with open_bank(bank) as opened:
        found = measure(opened, 0, "toy", Looking(toy_methods.ToyConfig()).eval(), [1], CPU, episodes=6, off_episodes=1)
        drawn, sizes = opened.episodes(0, 1), []
        for image, class_id in zip(drawn.support[:6, 0, 0].tolist(), drawn.classes[:6, 0].tolist(), strict=True):
            mask = Image.fromarray(opened.masks.of_class(image, class_id)).resize((32, 32), Image.Resampling.NEAREST)
            sizes.append(int((np.asarray(mask) == 1).sum()))
    assert len(set(sizes)) > 1
    assert found.head_each[1] == pytest.approx(np.mean(sizes))


def test_parts_are_timed_in_the_layout_of_the_run(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strides, encode = set(), toy_methods.ToyMaps.encode

    def encoded(self: toy_methods.ToyMaps, images: Tensor) -> Features:
        strides.add((images.is_contiguous(memory_format=torch.channels_last), self.encoder.body.weight.stride(1)))
        return encode(self, images)

    monkeypatch.setattr(toy_methods.ToyMaps, "encode", encoded)
    method, _ = build_method(MethodSpec("toy_methods:ToyMaps", weights="random"), 0)
    with open_bank(bank) as opened:
        measure(opened, 0, "toy", method, [1], replace(CPU, channels_last=True), episodes=9, off_episodes=1)
    assert strides == {(True, 1)}
