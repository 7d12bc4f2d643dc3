"""BAM's two trainings (the authors' train_base.py and train.py, PASCAL-5i)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.recipes.lite import WIDTH, lite

FROZEN = ("encoder.*", "base.*")
BASE = Stage(
    name="base",
    kind="base",
    optimiser=Optimiser("SGD", 2.5e-4, weight_decay=1e-4, momentum=0.9),
    groups=(Group(("encoder.*",)), Group(("base.*",), rate=10)),
    schedule=Schedule(power=0.9, first=1),
    epochs=100,
    batch=12,
    size=(417, 417),
    query=Augmentation(flip=0.5, scale=(0.5, 2.0), rotate=10, blur=0.5, crop=True),
    draw="image",
)
CHANGED = Augmentation(flip=0.5, scale=(0.9, 1.1), rotate=10, blur=0.5, crop=True, keep_object=0.85)

PAPER = Recipe(
    "paper",
    (
        BASE,
        Stage(
            name="meta",
            optimiser=Optimiser("SGD", 5e-3, weight_decay=1e-4, momentum=0.9),
            groups=(
                Group(
                    ("down_query.*", "down_supp.*", "init_merge.*", "aspp.*", "res[12]_meta.*", "cls_meta.*"), rate=10
                ),
                Group(("merging.*", "kshot_rw.*"), rate=10),
            ),
            schedule=Schedule(power=0.9, first=1),
            epochs=200,
            batch=8,
            frozen=FROZEN,
            running_statistics=True,
            query=CHANGED,
            support=CHANGED,
            draw="image",
            novel_images="dropped",
        ),
    ),
    quirks=(
        "every group of the meta stage learns at ten times the rate of the configuration file: 0.05",
        "images that show any novel class are dropped in the meta stage, which is worth points; the base stage sees "
        "them, novel classes as background",
        "the backbone is fine-tuned on the base classes: not comparable with methods on ImageNet's weights",
        "the frozen base learner keeps its Dropout in the meta stage, and its loss trains nothing",
        "the first step's rate is already reduced, the last one's is 0",
    ),
    reading="the base stage's window is drawn once; the authors draw it again while it misses the first base class",
)


def two_lite(paper: Recipe, settings: Mapping[str, Any] | None = None) -> Recipe:
    """`lite` in two steps of equal length: the base learner on the frozen backbone, then the rest."""
    small = lite(settings={"deep_stem": False} | dict(settings or {}), name="meta", frozen=FROZEN)
    meta = small.stages[0]
    base = replace(
        meta,
        name="base",
        kind="base",
        frozen=("encoder.*",),
        groups=(Group(("base.*",)),),
        running_statistics=False,
        evaluating=("encoder",),
        batch=8,
    )
    return replace(small, stages=(base, replace(meta, groups=(Group(),))), quirks=paper.quirks[1:2])


LITE = two_lite(PAPER, {"width": WIDTH})
