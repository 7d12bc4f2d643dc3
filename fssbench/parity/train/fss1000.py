"""FSS-1000's training cases: the queries of a step share their supports."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fssbench.parity.case import Case
from fssbench.parity.setup import Setup, plain_episodes
from methods.fss1000 import FSS1000, FSS1000Config


def setup(case: Case) -> Setup:
    """Pixels divided by 255 and nothing else; the queries of a step share their supports."""

    def image(name: str) -> Tensor:
        scaled = (case.rgb(name) / 255).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))

    return Setup.of(FSS1000, FSS1000Config(size=case.size), lambda step: plain_episodes(case, step, image))
