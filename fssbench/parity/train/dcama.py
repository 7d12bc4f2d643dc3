"""DCAMA's training cases: binary masks, no void."""

from __future__ import annotations

from fssbench.parity.case import Case
from fssbench.parity.runners.dcama import config
from fssbench.parity.setup import Setup, plain_episodes
from methods.dcama import DCAMA


def setup(case: Case) -> Setup:
    """As the case says."""
    return Setup.of(DCAMA, config(case), lambda step: plain_episodes(case, step))
