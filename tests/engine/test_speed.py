"""What `fssbench speed` says: figures that can be checked against the bank and against each other."""

from __future__ import annotations

import json
from pathlib import Path

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
from fssbench.method import EpisodeBatch, Features


@pytest.fixture(scope="module")
def measured(bank: Path) -> Speed:
    method, _ = build_method(MethodSpec("toy_methods:Toy", weights="random"), 0)
    with open_bank(bank) as opened:
        return measure(opened, 0, "toy", method, [1, 5], Settings(torch.device("cpu")), episodes=12, off_episodes=3)


def test_the_floor_counts_every_image_that_the_episodes_name_once(measured: Speed, bank: Path) -> None:
    with open_bank(bank) as opened:
        episodes = opened.episodes(0)
        named = np.union1d(episodes.query[:12], episodes.support[:12])
    assert (measured.episodes, measured.distinct_images) == (12, len(named))


def test_the_floor_is_the_sum_of_its_parts_and_the_ratio_is_to_it(measured: Speed) -> None:
    heads = 12 * (measured.head_each[1] + measured.head_each[5])
    encoder = measured.distinct_images * measured.encode_each + measured.distinct_supports * measured.pool_each
    assert measured.floor == pytest.approx(encoder + heads)
    assert measured.ratio == pytest.approx(measured.total / (encoder + heads))
    assert min(measured.encode_each, *measured.head_each.values()) > 0


def test_the_phases_add_up_to_the_whole_run(measured: Speed) -> None:
    assert sum(measured.phases.values()) == pytest.approx(measured.total, rel=0.05)
    assert {"decode", "encode", "head", "score", "rest"} <= set(measured.phases)


def test_counts_are_the_same_with_the_cache_off(measured: Speed) -> None:
    assert measured.off_counts_equal
    assert set(measured.off) == set(measured.on) == {1, 5}


def test_features_fit_into_the_memory_that_the_process_held(measured: Speed) -> None:
    assert 0 < measured.cache_peak_bytes < measured.peak_memory_bytes


def test_everything_can_be_written_as_json(measured: Speed) -> None:
    assert json.loads(json.dumps(measured.to_json()))["ratio"] == measured.ratio


def test_parts_are_timed_on_a_usual_support_in_the_layout_of_the_run(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas, strides = set(), set()
    plain, encode = toy_methods.ToyMaps.segment, toy_methods.ToyMaps.encode

    def watched(self: toy_methods.ToyMaps, episodes: EpisodeBatch) -> Tensor:
        if episodes.support_labels.stride(0) == 0 and episodes.size[0] == 8:  # a part: one label for all
            areas.add(int((episodes.support_labels[0] == 1).sum()))
        return plain(self, episodes)

    def encoded(self: toy_methods.ToyMaps, images: Tensor) -> Features:
        strides.add((images.is_contiguous(memory_format=torch.channels_last), self.encoder.body.weight.stride(1)))
        return encode(self, images)

    monkeypatch.setattr(toy_methods.ToyMaps, "segment", watched)
    monkeypatch.setattr(toy_methods.ToyMaps, "encode", encoded)
    method, _ = build_method(MethodSpec("toy_methods:ToyMaps", weights="random"), 0)
    settings = Settings(torch.device("cpu"), channels_last=True)
    with open_bank(bank) as opened:
        measure(opened, 0, "toy", method, [1], settings, episodes=9, off_episodes=1)
        drawn, sizes = opened.episodes(0, 1), []
        for image, class_id in set(zip(drawn.support[:9, 0, 0].tolist(), drawn.classes[:9, 0].tolist(), strict=True)):
            mask = Image.fromarray(opened.mask(image, class_id)).resize((32, 32), Image.Resampling.NEAREST)
            sizes.append(int((np.asarray(mask) == 1).sum()))
    assert areas == {sorted(sizes)[len(sizes) // 2]}
    assert strides == {(True, 1)}
