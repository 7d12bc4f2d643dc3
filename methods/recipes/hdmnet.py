"""HDMNet's training (the authors' config and train.py, PASCAL-5i), on BAM's base learner."""

from __future__ import annotations

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.bam import BASE, FROZEN, two_lite

CHANGED = Augmentation(flip=0.5, scale=(0.9, 1.1), rotate=10, blur=0.5)

PAPER = Recipe(
    "paper",
    (
        BASE,
        Stage(
            name="meta",
            optimiser=Optimiser("AdamW", 1e-4, weight_decay=0.01),
            groups=(
                Group(("transformer.*",)),
                Group(("down_query.*", "down_supp.*", "query_merge.*", "supp_merge.*", "merging.*"), rate=10),
            ),
            idle=("kshot_rw.*",),
            schedule=Schedule(power=0.9, first=1),
            epochs=200,
            batch=16,
            frozen=FROZEN,
            running_statistics=True,
            query=CHANGED,
            support=CHANGED,
            draw="image",
            novel_images="dropped",
        ),
    ),
    quirks=(
        "`kshot_rw` is in no group of the optimiser: it stays as it was drawn",
        "images that show any novel class are dropped in the meta stage, which is worth points; the base stage sees "
        "them, novel classes as background",
        "the transformer's BatchNorm never sees batch statistics: its running ones stay 0 and 1",
        "groups are given 10 times the rate twice, and the schedule overwrites the second: 10, not 100 times",
        "the first step's rate is already reduced, the last one's is 0",
    ),
)
LITE = two_lite(PAPER)
