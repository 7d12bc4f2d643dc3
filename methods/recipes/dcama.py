"""DCAMA's training (the authors' train.py)."""

from __future__ import annotations

from fssbench.training.recipe import Group, Optimiser, Recipe, Stage
from methods.recipes.lite import lite

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 1e-3, weight_decay=1e-4, momentum=0.9, nesterov=True),
            groups=(Group(),),  # the backbone's parameters too, which never get a gradient
            epochs=500,
            batch=48,
            frozen=("encoder.*",),
            evaluating=("encoder",),
            void="background",
            draw="pair",
            min_area=1,
        ),
    ),
    quirks=(
        "void pixels are trained as background and ignored in the scores",
        "weight decay is a tenth of the rate",
        "trained with one shot whatever it is tested with",
    ),
    reading="epochs and batch of the authors' script for COCO-20i; they give none for PASCAL-5i",
)
LITE = lite()
