"""SSP's training cases: strips of every label are void."""

from __future__ import annotations

from fssbench.parity.case import Case
from fssbench.parity.setup import Setup
from fssbench.parity.train.pfenet import stripped
from methods.ssp import SSP, SSPConfig


def setup(case: Case) -> Setup:
    """With strips of void in every label; refined, as the authors train."""
    config = SSPConfig(backbone=case.meta["backbone"], size=case.size)
    return Setup.of(SSP, config, lambda step: stripped(case, step))
