"""PMMs' training cases, and RPMMs': fixed initial means in place of those drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fssbench.parity import recipe
from fssbench.parity.case import Case
from fssbench.parity.setup import Setup, plain_episodes
from methods.pmms import PMMs, PMMsConfig, RPMMs, RPMMsConfig


def setup(case: Case) -> Setup:
    """PMMs and RPMMs, with the initial means that stand for their random ones."""
    em = case.meta["em"]
    options: dict[str, Any] = {
        "backbone": case.meta["backbone"], "size": case.size, "kappa": em["kappa"], "em_rounds": em["rounds"],
        "dropout": 0.0,
    }  # fmt: skip
    components = tuple(int(k) for k in em["components"])
    means = {}
    for k, name in zip(components, em["init_names"], strict=True):
        drawn = np.sqrt(2 / k) * recipe.generator(case.meta["seed"], name).standard_normal((1, 256, k))
        mean = torch.from_numpy(drawn.astype(np.float32))
        means[f"means_{k}"] = mean / (1e-6 + mean.norm(dim=1, keepdim=True))
    if case.meta["method"] == "RPMMs":
        return Setup.of(
            RPMMs, RPMMsConfig(components=components, **options), lambda step: plain_episodes(case, step), buffers=means
        )
    config = PMMsConfig(components=components[0], **options)
    return Setup.of(PMMs, config, lambda step: plain_episodes(case, step), buffers=means)
