"""The same numbers on an accelerator as on the CPU. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest, run_methods
from fssbench.records import read_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def miou(spec: MethodSpec, bank: Path, out: Path, listener, **options: object) -> float:
    """mIoU in percent, mean of the folds."""
    settings = Settings(**options)  # type: ignore[arg-type]
    (outcome,) = run_methods(RunRequest([spec], bank, settings, (5,), out=out), listener)
    assert outcome.state == "finished", outcome.message
    return 100 * float(read_run(outcome.folder).summary["miou"])


@pytest.mark.parametrize(
    "spec",
    [
        MethodSpec("toy_methods:Toy", weights="random"),
        MethodSpec("panet", ("size=97,97",), "efficientnet_lite0", "random"),
        MethodSpec("hsnet", ("size=97,97",), "resnet50", "random"),
        MethodSpec("pfenet", ("size=97,97", "ppm_scales=0.5,0.25"), "efficientnet_lite0", "random"),
    ],
    ids=lambda spec: spec.name,
)
def test_the_gpu_gives_the_cpus_miou_in_fp32(spec: MethodSpec, bank: Path, tmp_path: Path, listener) -> None:
    cpu = miou(spec, bank, tmp_path / "cpu", listener, device=torch.device("cpu"))
    gpu = miou(spec, bank, tmp_path / "gpu", listener, device=torch.device("cuda"))
    assert abs(cpu - gpu) <= 0.05


@pytest.mark.parametrize("options", [{"channels_last": True}, {"encode_batch": 3}, {"cache_bytes": 50_000}], ids=str)
def test_options_of_speed_move_the_gpus_miou_by_less_than_a_hundredth(bank, tmp_path, listener, options) -> None:
    spec = MethodSpec("panet", ("size=97,97",), "efficientnet_lite0", "random")
    plain = miou(spec, bank, tmp_path / "plain", listener, device=torch.device("cuda"))
    other = miou(spec, bank, tmp_path / "other", listener, device=torch.device("cuda"), **options)
    assert abs(plain - other) <= 0.01


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_finite_and_near(bank, tmp_path, listener, precision: str) -> None:
    spec = MethodSpec("panet", ("size=97,97",), "efficientnet_lite0", "random")
    full = miou(spec, bank, tmp_path / "full", listener, device=torch.device("cuda"))
    half = miou(spec, bank, tmp_path / "half", listener, device=torch.device("cuda"), precision=precision)
    assert abs(full - half) <= 1.0
