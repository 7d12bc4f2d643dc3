"""SSP's training (the authors' main.py)."""

from __future__ import annotations

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import EARLY, TUNED, lite

CROPPED = Augmentation(flip=0.5, crop=True)

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 1e-3, weight_decay=5e-4, momentum=0.9),
            groups=(
                Group(("encoder.body.layer[23].*",), ndim=4),  # convolutions; BatchNorm is frozen
                Group(("encoder.body.blocks.*", "encoder.body.features.*")),  # of other backbones
            ),
            schedule=Schedule(parts=3),
            steps=6000,
            batch=4,
            running_statistics=True,
            size=(473, 473),
            fit="native",
            query=CROPPED,
            support=CROPPED,
            draw="image",
        ),
    ),
    quirks=(
        "a crop may miss the object; images are never scaled",
        "images that show novel classes stay, as background",
    ),
    reading="24000 episodes in batches of 4, as the authors count them: 6000 steps",
)
LITE = lite(TUNED, {"deep_stem": False}, frozen=EARLY)
