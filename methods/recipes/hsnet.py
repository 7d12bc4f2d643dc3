"""HSNet's training (the authors' train.py)."""

from __future__ import annotations

from fssbench.training.recipe import Group, Optimiser, Recipe, Stage
from methods.recipes.lite import lite

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("Adam", 1e-3),
            groups=(Group(),),  # the backbone's parameters too, which never get a gradient
            epochs=350,
            batch=20,
            frozen=("encoder.*",),
            evaluating=("encoder",),
            void="background",
            draw="pair",
            min_area=1,
        ),
    ),
    quirks=("void pixels are trained as background and ignored in the scores",),
    reading="350 epochs, the least that the author advises for PASCAL-5i; they stopped by hand",
    gpus=4,
)
LITE = lite()
