"""What is kept for long lies apart from what comes and goes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fssbench.engine.memory import copied_apart

LARGE = 64 << 18  # values: 64 MB


def resident() -> int:
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [3, 400])  # some bytes, and more than a megabyte
def test_a_copy_has_the_values_and_the_layout_and_is_nobody_elses(layout: torch.memory_format, side: int) -> None:
    value = torch.randn(2, 5, side, side).contiguous(memory_format=layout)
    copy = copied_apart(value[:1])
    wanted = value[:1].clone()
    value.zero_()
    assert torch.equal(copy, wanted)
    assert copy.is_contiguous(memory_format=layout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_large_copy_took_is_given_back_at_once() -> None:
    before = resident()
    copy = copied_apart(torch.ones(1).expand(LARGE))
    held = resident() - before
    del copy
    assert held > 60 << 20
    assert resident() - before < 8 << 20
