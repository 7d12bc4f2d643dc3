"""SG-One's training cases: pixels in BGR, supports of another size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fssbench.parity import recipe
from fssbench.parity.case import Case, Size
from fssbench.parity.setup import Setup
from fssbench.training.batches import Episodes
from methods.sgone import SGOne, SGOneConfig


def setup(case: Case) -> Setup:
    """Pixels in BGR, normalised as if they were RGB; supports of another size."""
    support_size = (int(case.meta["support_size"][0]), int(case.meta["support_size"][1]))

    def bgr(name: str, size: Size | None = None) -> Tensor:
        return torch.from_numpy(recipe.normalised(np.ascontiguousarray(case.rgb(name, size)[..., ::-1])))

    def batch(step: int) -> Episodes:
        items = case.meta["input_names"][step]
        return Episodes(
            query=torch.stack([bgr(item["query"]) for item in items]),
            query_labels=case.masks(item["query_mask"] for item in items).long(),
            support=torch.stack([torch.stack([bgr(n, support_size) for n in i["support"]]) for i in items])[:, None],
            support_labels=torch.stack([case.masks(i["support_masks"], support_size) for i in items])[:, None],
        )

    return Setup.of(SGOne, SGOneConfig(), batch)
