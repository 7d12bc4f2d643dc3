"""PFENet's training (the authors' config and train.py, PASCAL-5i)."""

from __future__ import annotations

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import WIDTH, lite

CHANGED = Augmentation(flip=0.5, scale=(0.9, 1.1), rotate=10, blur=0.5, crop=True, keep_object=0.85)

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 2.5e-3, weight_decay=1e-4, momentum=0.9),
            groups=(Group(("down_query.*", "down_supp.*", "enrichment.*", "cls.*"), rate=10),),
            schedule=Schedule(power=0.9, first=1),
            epochs=200,
            batch=4,
            frozen=("encoder.*",),
            query=CHANGED,
            support=CHANGED,
            draw="image",
        ),
    ),
    quirks=(
        "every group learns at ten times the rate of the configuration file: 0.025",
        "BatchNorm of the frozen backbone on batch statistics (`batchnorm=batch`), which drift",
        "the first step's rate is already reduced, the last one's is 0",
    ),
)
LITE = lite(
    settings={"batchnorm": "running", "deep_stem": False, "width": WIDTH, "ppm_scales": (1.0, 0.5, 0.25, 0.125)}
)
