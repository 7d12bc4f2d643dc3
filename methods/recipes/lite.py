"""The recipe `lite`: the same images, episodes, steps and augmentation for every method, so that they compare.

For a small backbone, a small data set, a CPU. No quirks: BatchNorm keeps its running statistics, images with novel
classes are left out, rates suit AdamW. Only what a method's own layers need differs: groups, frozen parts, settings.
Nearly all of a step is the head's convolutions, so the input is small, the widest heads are half as wide as published
(CANet, PMMs, RPMMs, PFENet, BAM), and the backbone is frozen where a method has layers of its own to learn; the methods
that have none (PANet, FSIL, SSP) learn the backbone's later blocks. Four of five background pixels are left out of the
losses, drawn anew for each episode: with all of them a head answers "background" for its first thousands of episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage

STEPS, BATCH, SIDE, WIDTH = 400, 4, 97, 128
FLIP = Augmentation(flip=0.5)
HEAD = (Group(),)  # the encoder is frozen
TUNED = (Group(("encoder.*",), rate=0.3), Group())  # of the encoder, what is not frozen learns at a lower rate
# Everything before the fourth map: of EfficientNet-Lite, of ResNets, of VGG-16.
EARLY = tuple(
    f"{network}.body.{part}"
    for network in ("encoder", "learner", "conditioner")
    for part in (
        "conv_stem.*",
        "bn1.*",
        "blocks.[0-2].*",
        "conv1.*",
        "layer[12].*",
        "features.?.*",
        "features.1[0-6].*",
    )
)


_STAGE = Stage(
    optimiser=Optimiser("AdamW", 1e-3, weight_decay=1e-4),
    schedule=Schedule(power=0.9, warmup=10),
    steps=STEPS,
    batch=BATCH,
    running_statistics=True,
    clip=1.0,
    query=FLIP,
    support=FLIP,
    draw="balanced",
    novel_images="dropped",
    background=0.2,
)


def lite(groups: tuple[Group, ...] = HEAD, settings: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """`lite` for one method; `changes` are fields of its `Stage`."""
    still = {"frozen": ("encoder.*",), "evaluating": ("encoder", "encoder.*")} if groups is HEAD else {}
    stage = replace(_STAGE, **({"groups": groups} | still | changes))
    return Recipe("lite", (stage,), {"size": (SIDE, SIDE)} | dict(settings or {}))
