"""What `fssbench speed` says: figures that can be checked against the bank and against each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fssbench.banks.bank import open_bank
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluate import Settings
from fssbench.engine.speed import Speed, measure


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
