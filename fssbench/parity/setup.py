"""What a training case feeds, and the recipe it is trained by: the runners in `fssbench.parity.train` say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fssbench.method import Method, MethodConfig
from fssbench.parity.case import Case
from fssbench.training.batches import Batch, Episodes
from fssbench.training.recipe import Stage


@dataclass(frozen=True)
class Setup:
    """A case made ours: how the method is built, the recipe's stage, and what it is fed."""

    cls: type[Method]
    config: MethodConfig
    batch: Callable[[int], Batch]  # of a step, in float32
    stage: Stage
    buffers: Mapping[str, Tensor]  # of the method, that no checkpoint of the authors holds
    before_step: Callable[[Method, int], None]

    @classmethod
    def of(
        cls,
        method: type[Method],
        config: MethodConfig,
        batch: Callable[[int], Batch],
        stage: Stage | None = None,
        buffers: Mapping[str, Tensor] | None = None,
        before_step: Callable[[Method, int], None] = lambda method, step: None,
    ) -> Setup:
        """By default with the first stage of the method's recipe `paper`."""
        return cls(method, config, batch, stage or method.recipes["paper"].stages[0], buffers or {}, before_step)


def plain_episodes(case: Case, step: int, image: Callable[[str], Tensor] | None = None) -> Episodes:
    """1-way episodes with binary masks."""
    read = image or case.image
    items = case.meta["input_names"][step]
    return Episodes(
        query=torch.stack([read(item["query"]) for item in items]),
        query_labels=case.masks(item["query_mask"] for item in items).long(),
        support=torch.stack([torch.stack([read(name) for name in item["support"]]) for item in items])[:, None],
        support_labels=torch.stack([case.masks(item["support_masks"]) for item in items])[:, None],
    )
