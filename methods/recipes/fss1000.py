"""The training of FSS-1000's relation network (the authors' training.py)."""

from __future__ import annotations

from fssbench.training.recipe import Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import EARLY, TUNED, lite

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("Adam", 1e-3),
            groups=(Group(("encoder.*",), clip=0.5), Group(("relation.*",), clip=0.5)),
            schedule=Schedule(tenths=10, gamma=0.5),
            steps=800_000,
            batch=5,
            queries=5,
            shots=5,
            min_area=1,
        ),
    ),
    quirks=("from random weights", "BatchNorm of momentum 1 in the relation network"),
)
LITE = lite(TUNED, frozen=EARLY)
