"""The same counts on a GPU as on a CPU, and again; memory that runs out for real. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toy_runs import frames

from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest, run_methods
from fssbench.errors import RecordError
from fssbench.records import COUNTS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PANET = MethodSpec("panet", ("size=97,97",), "efficientnet_lite0", "random")
SPECS = [
    MethodSpec("toy_methods:Toy", weights="random"),
    PANET,
    MethodSpec("hsnet", ("size=97,97",), "resnet50", "random"),
    MethodSpec("pfenet", ("size=97,97", "ppm_scales=0.5,0.25"), "efficientnet_lite0", "random"),
    MethodSpec("ssp", ("size=97,97",), "efficientnet_lite0", "random"),
    MethodSpec("nearest", ("size=97,97",), "efficientnet_lite0", "random"),
]


def run(spec: MethodSpec, bank: Path, out: Path, listener: Any, **options: object) -> pd.DataFrame:
    """The episodes of a finished run at 5 shots."""
    request = RunRequest([spec], bank, Settings(**options), (5,), out=out)  # type: ignore[arg-type]
    (outcome,) = run_methods(request, listener)
    assert outcome.state == "finished", outcome.message
    return frames([outcome])[0]


def moved(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """The share of an episode's pixels that two runs count differently, the largest over the episodes."""
    a, b = (frame[COUNTS].to_numpy(np.int64) for frame in (one, other))
    assert one.drop(columns=COUNTS).equals(other.drop(columns=COUNTS))
    return float((np.abs(a - b).sum(1) / 2 / a.sum(1)).max())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_rows_on_a_gpu_are_those_of_the_cpu_but_for_pixels_on_the_border(spec, bank, tmp_path, listener) -> None:
    """Sums are in another order: a pixel moves only where two logits are nearly equal."""
    cpu = run(spec, bank, tmp_path / "cpu", listener, device=CPU)
    gpu = run(spec, bank, tmp_path / "gpu", listener, device=GPU)
    assert moved(cpu, gpu) <= 0.005


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_rows_on_a_gpu_repeat_exactly_with_the_cache_or_in_little_memory(spec, bank, tmp_path, listener) -> None:
    first = run(spec, bank, tmp_path / "first", listener, device=GPU)
    second = run(spec, bank, tmp_path / "second", listener, device=GPU)
    little = run(spec, bank, tmp_path / "little", listener, device=GPU, cache_bytes=50_000, host_bytes=200_000)
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(first, little)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"channels_last": True}, 0.005),
        ({"encode_batch": 3}, 0.005),
        ({"compile": True}, 0.005),
        ({"precision": "bf16"}, 0.2),
        ({"precision": "fp16"}, 0.05),
    ],
    ids=str,
)
def test_options_of_speed_and_precision_move_few_pixels(bank, tmp_path, listener, options, most: float) -> None:
    plain = run(PANET, bank, tmp_path / "plain", listener, device=GPU)
    other = run(PANET, bank, tmp_path / "other", listener, device=GPU, **options)
    assert moved(plain, other) <= most


def test_a_run_that_finds_the_gpus_memory_full_goes_on_with_smaller_batches(bank, tmp_path, listener) -> None:
    """It may take 3 GB: the maps of 64 images do not fit, those of fewer do."""
    spec = MethodSpec("panet", ("size=769,769",), "resnet50", "random")
    free = run(spec, bank, tmp_path / "free", listener, device=GPU, encode_batch=1)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (3 << 30)) / total)
    try:
        full = run(spec, bank, tmp_path / "full", listener, device=GPU, encode_batch=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("ran out of memory" in line for line in listener.messages)
    assert moved(free, full) <= 0.005


def test_a_run_begun_on_a_cpu_is_not_gone_on_with_on_a_gpu_and_says_so(bank, tmp_path, listener, monkeypatch) -> None:
    """Its rows would be of two devices; with another folder, or --force, it runs on the GPU from the start."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(listener, "advance", _stop)
        run(PANET, bank, tmp_path, listener, device=CPU)
    with pytest.raises(RecordError, match="device: then 'cpu"):
        run(PANET, bank, tmp_path, listener, device=GPU)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
