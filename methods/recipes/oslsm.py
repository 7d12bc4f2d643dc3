"""OSLSM's training (the authors' prototxt and solver)."""

from __future__ import annotations

from fssbench.training.recipe import Group, Optimiser, Recipe, Stage
from methods.recipes.lite import EARLY, SIDE, lite

CONDITIONING = ("conditioner", "fc6f", "fc7f", "fc8f")

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 1e-10, weight_decay=5e-4, momentum=0.99),
            groups=(
                Group(tuple(f"{part}.*bias" for part in CONDITIONING), rate=0.2, weight_decay=0.0),
                Group(tuple(f"{part}.*" for part in CONDITIONING), rate=0.1),
                Group(("*.bias",), rate=2, weight_decay=0.0),
                Group(),
            ),
            steps=60_000,
            batch=10,
            fit="native",
            void="background",
            draw="pair",
        ),
    ),
    quirks=(
        "the loss is a sum over pixels, hence the rate of 1e-10",
        "queries keep their size in training, 500 x 500 at test",
    ),
)
# A third of the others' rate: the products of its two branches leave a rate of 1e-3 at "background" on one fold of two.
LITE = lite(
    (Group(("encoder.*", "conditioner.*"), rate=0.1), Group(rate=0.3)),
    {"stride": 16, "width": 256, "codes": 256, "support_size": (SIDE, SIDE), "dropout": 0.0},
    frozen=EARLY,
)
