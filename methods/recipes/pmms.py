"""The training of PMMs and RPMMs (the authors' train.py and my_optim.py)."""

from __future__ import annotations

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import WIDTH, lite

CROP = Augmentation(flip=0.5, area=(0.5, 1.0))

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 3.5e-4, weight_decay=5e-4, momentum=0.9),
            groups=(
                Group(("encoder.*.weight", "adapt.weight")),
                Group(("encoder.*.bias", "adapt.bias"), rate=2),
                Group(("*.weight",), rate=10),
                Group(("*.bias",), rate=20),
            ),
            schedule=Schedule(power=0.9, first=1),
            steps=200_001,
            batch=8,
            size=(321, 321),
            query=CROP,
            support=CROP,
            void="background",
            novel_images="dropped",
            min_area=1,
        ),
    ),
    quirks=(
        "BatchNorm of the backbone on batch statistics (`batchnorm=batch`), its scale and shift frozen",
        "the support's pass sends back no gradient",
        "the first step's rate is already reduced",
        "trained at 321 px, tested at 481",
    ),
)
LITE = lite(settings={"batchnorm": "running", "width": WIDTH, "dropout": 0.0})
