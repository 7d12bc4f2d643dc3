"""BAM's training cases of the meta stage: episodes with base labels, strips of every label void."""

from __future__ import annotations

from dataclasses import replace

import torch

from fssbench.parity.case import Case
from fssbench.parity.runners.bam import base_labels, config
from fssbench.parity.setup import Setup
from fssbench.parity.train.pfenet import stripped
from fssbench.training.batches import Episodes
from methods.bam import BAM


def setup(case: Case) -> Setup:
    """The second stage of the recipe."""
    return Setup.of(BAM, config(case), lambda step: episodes(case, step), BAM.recipes["paper"].stages[1])


def episodes(case: Case, step: int) -> Episodes:
    """A step's episodes with the classes they are about and the labels of all base classes."""
    items = case.meta["input_names"][step]
    places = [int(item["class"]) for item in items]
    labels = base_labels(case, items, places)
    return replace(stripped(case, step), classes=torch.tensor(places), base_labels=labels)
