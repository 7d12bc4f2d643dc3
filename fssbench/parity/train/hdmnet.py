"""HDMNet's training cases of the meta stage: inputs as BAM's."""

from __future__ import annotations

from fssbench.parity.case import Case
from fssbench.parity.runners.hdmnet import config
from fssbench.parity.setup import Setup
from fssbench.parity.train.bam import episodes
from methods.hdmnet import HDMNet


def setup(case: Case) -> Setup:
    """The second stage of the recipe."""
    return Setup.of(HDMNet, config(case), lambda step: episodes(case, step), HDMNet.recipes["paper"].stages[1])
