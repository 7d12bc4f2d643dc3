"""CANet's training cases: fixed history masks in place of those drawn."""

from __future__ import annotations

import torch

from fssbench.method import Method
from fssbench.parity.case import Case
from fssbench.parity.setup import Setup, plain_episodes
from methods.canet import CANet, CANetConfig


def setup(case: Case) -> Setup:
    """With the history masks that a case names in place of those drawn."""

    def before_step(method: Method, step: int) -> None:
        names = [item["history"] for item in case.meta["input_names"][step]]
        found = [torch.zeros(41, 41) if name is None else case.mask(name, (41, 41)).float() for name in names]
        masks = [
            torch.zeros(2, 41, 41) if n is None else torch.stack([1 - m, m]) for n, m in zip(names, found, strict=True)
        ]
        history = torch.stack(masks).to(next(method.parameters()).dtype)
        method.history = lambda comparison: history  # type: ignore[assignment]

    config = CANetConfig(backbone=case.meta["backbone"], size=case.size, dropout=0.0)
    return Setup.of(CANet, config, lambda step: plain_episodes(case, step), before_step=before_step)
