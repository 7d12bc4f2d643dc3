"""SG-One's training (the authors' train_frame.py and my_optim.py)."""

from __future__ import annotations

from fssbench.training.recipe import Group, Optimiser, Recipe, Stage
from methods.recipes.lite import lite

PAPER = Recipe(
    "paper",
    (
        Stage(
            optimiser=Optimiser("SGD", 1e-5, weight_decay=5e-4, momentum=0.99),
            groups=(
                Group(("guidance.weight",), rate=10),
                Group(("guidance.bias",), rate=20),
                Group(("*.weight",)),
                Group(("*.bias",), rate=2),
            ),
            steps=10_000,
            fit="native",
            reversed_channels=True,
            void="object",
            one_class=True,
            min_area=1,
        ),
    ),
    quirks=(
        "trained on BGR pixels normalised as RGB, tested on RGB",
        "255 of a training label is object, of a test label background",
        "`classifier_6` learns at the plain rate, since its name lacks 'cls'",
    ),
    reading="10,000 steps: those that the authors' test scripts load; their loop goes on to 100,002",
)
LITE = lite()
