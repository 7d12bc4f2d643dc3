"""PFENet's training cases: strips of every label are void."""

from __future__ import annotations

from fssbench.method import VOID
from fssbench.parity.case import Case
from fssbench.parity.setup import Setup, plain_episodes
from fssbench.training.batches import Episodes
from methods.pfenet import PFENet, PFENetConfig

STRIP = 4  # rows of a query label and columns of a support label


def setup(case: Case) -> Setup:
    """With strips of void in every label."""
    config = PFENetConfig(backbone=case.meta["backbone"], size=case.size, ppm_scales=tuple(case.meta["ppm_scales"]))
    return Setup.of(PFENet, config, lambda step: stripped(case, step))


def stripped(case: Case, step: int) -> Episodes:
    """Episodes with strips of void in every label."""
    made = plain_episodes(case, step)
    made.query_labels[:, :STRIP] = VOID
    made.support_labels[..., :STRIP] = VOID
    return made
