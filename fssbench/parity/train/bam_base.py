"""BAM's training cases of the base stage: single images with labels of the base classes, a strip void."""

from __future__ import annotations

from fssbench.parity.case import Case
from fssbench.parity.runners.bam import base_labels, config
from fssbench.parity.setup import Setup
from fssbench.training.batches import Images
from methods.bam import BAM


def setup(case: Case) -> Setup:
    """The first stage of the recipe."""

    def batch(step: int) -> Images:
        items = case.meta["input_names"][step]
        return Images(case.images(item["image"] for item in items), base_labels(case, items))

    return Setup.of(BAM, config(case), batch)
