"""HSNet's training cases: plain masks."""

from __future__ import annotations

from fssbench.parity.case import Case
from fssbench.parity.setup import Setup, plain_episodes
from methods.hsnet import HSNet, HSNetConfig


def setup(case: Case) -> Setup:
    """Plain masks."""
    return Setup.of(
        HSNet, HSNetConfig(backbone=case.meta["backbone"], size=case.size), lambda s: plain_episodes(case, s)
    )
