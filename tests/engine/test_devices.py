"""Which device a name means, on a machine with one GPU or none."""

from __future__ import annotations

import pytest
import torch

from fssbench.engine.devices import pick_device
from fssbench.errors import UsageError


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize("name", ["cuda:1", "cuda:9", "cuda:x", "cuda:", "mps", "gpu"])
def test_a_device_that_is_not_there_is_refused_before_it_is_used(one_gpu: None, name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name}: this machine has cuda, cpu"):
        pick_device(name)


def test_the_gpu_is_taken_where_there_is_one_and_by_its_number(one_gpu: None) -> None:
    assert [str(pick_device(name)) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda", "cuda", "cuda:0", "cpu"]
