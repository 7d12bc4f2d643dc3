"""PANet's training cases: label maps of several classes, any number of ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fssbench.method import VOID
from fssbench.parity.case import Case
from fssbench.parity.runners import panet as cases
from fssbench.parity.setup import Setup
from fssbench.training.batches import Episodes
from methods.panet import PANet, PANetConfig


def setup(case: Case) -> Setup:
    """Label maps of several classes, any number of ways."""
    stage = PANet.recipes["paper"].stages[0]
    schedule = replace(stage.schedule, milestones=tuple(case.meta["lr_milestones"]))
    ways = int(case.meta["ways"])

    def batch(step: int) -> Episodes:
        items = case.meta["input_names"][step]
        names = [name for item in items for way in item["support"] for name in way]
        size = (len(items), ways, case.shots)
        maps = [cases._label_map(case, name, i // case.shots % ways) for i, name in enumerate(names)]
        codes = [cases._mask_codes(case, i, labels, labels, labels) for i, labels in enumerate(maps)]
        truth = []
        for item in items:
            labels = cases._label_map(case, item["query"], 0)
            made = np.where(labels == VOID, VOID, 0)
            for way, class_id in enumerate(case.meta["class_ids"], 1):
                made[labels == class_id] = way
            truth.append(torch.from_numpy(made))
        return Episodes(
            query=case.images(item["query"] for item in items),
            query_labels=torch.stack(truth).long(),
            support=case.images(names).unflatten(0, size),
            support_labels=torch.from_numpy(np.stack(codes)).unflatten(0, size),
        )

    return Setup.of(PANet, PANetConfig(size=case.size), batch, replace(stage, schedule=schedule))
