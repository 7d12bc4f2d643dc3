"""CANet's training (the authors' train.py)."""

from __future__ import annotations

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Stage
from methods.recipes.lite import WIDTH, lite

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 2.5e-3, weight_decay=5e-4, momentum=0.9),
            groups=(Group(("reduce.*", "compare.*", "trunk.*", "attention.*")),),
            epochs=200,
            batch=4,
            frozen=("encoder.*",),
            support=Augmentation(flip=0.5, scale=(1.0, 1.5), crop=True),
            void="background",
            draw="pair",
            min_area=1,
        ),
    ),
    quirks=(
        "BatchNorm of the frozen backbone on batch statistics (`batchnorm=batch`)",
        "the rate is constant: the power of the schedule is never used",
        "a support's crop may lose its object",
    ),
)
LITE = lite(settings={"batchnorm": "running", "refinements": 1, "width": WIDTH, "dropout": 0.0})
