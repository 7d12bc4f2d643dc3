"""PANet's training (the authors' config.py and train.py); the readings of FSIL and PL follow it."""

from __future__ import annotations

from dataclasses import replace

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import EARLY, TUNED, lite

FLIP = Augmentation(flip=0.5)

STAGE = Stage(
    optimiser=Optimiser("SGD", 1e-3, weight_decay=5e-4, momentum=0.9),
    schedule=Schedule(milestones=(10_000, 20_000, 30_000)),
    steps=30_000,
    query=FLIP,
    support=FLIP,
    min_area=1,
)
PAPER = Recipe(
    "paper",
    (STAGE,),
    quirks=(
        "the third drop of the rate never acts",
        "support pixels labelled 255 are background (`void_is_background`)",
    ),
)
LITE = lite(TUNED, {"stages": ("c4",)}, frozen=EARLY)

FSIL_PAPER = replace(
    PAPER, stages=(replace(STAGE, auxiliary=2),), quirks=(), reading="PANet's training with 2 auxiliary images a way"
)
FSIL_LITE = lite(TUNED, {"stages": ("c4",)}, frozen=EARLY, auxiliary=2)
PL_PAPER = replace(PAPER, quirks=(), reading="PANet's training, with one joint loss for learner and segmentor")
PL_LITE = lite((Group(("encoder.*", "learner.*"), rate=0.3), Group()), {"output_stride": 16}, frozen=EARLY)
