"""What is asked of a training, and what it starts from: the recipe with the user's changes, and the drawn method."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fssbench.backbones import Backbone
from fssbench.checkpoints import load_imagenet
from fssbench.errors import MethodError, unknown_name
from fssbench.method import Method
from fssbench.registry import find_method
from fssbench.settings import as_text, parse_settings
from fssbench.training.recipe import Recipe


@dataclass(frozen=True)
class TrainRequest:
    """What to train, on what, and where it goes."""

    method: str
    dataset: str
    fold: int
    out: Path
    root: Path | None = None
    lists: str | None = None  # of training images; None: the data set's own
    recipe: str = "paper"
    backbone: str | None = None
    settings: tuple[str, ...] = ()
    steps: int | None = None  # of the last stage; None: the recipe's
    batch: int | None = None
    shots: int | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    accumulate: int = 1  # parts of a batch, a forward and backward pass each
    workers: int = 2
    validate: int = 3  # times, spread over the last stage; 0: the last step is taken
    validation_episodes: int = 60
    select_on_test: bool = False
    save_every: int = 50  # steps
    whole: bool = False  # keep the frozen encoder's weights in the checkpoint
    force: bool = False
    start: str = "imagenet"  # or "random"


def find_recipe(method: str, name: str) -> Recipe:
    """A method's recipe by name. Raises `MethodError` where it has none of that name."""
    cls = find_method(method)
    if name not in cls.recipes:
        if not cls.recipes:
            if not cls.info.trainable:
                raise MethodError(f"{cls.info.title} has nothing to train (`trainable=False`): run it as it is.")
            raise MethodError(
                f'{cls.info.title} has no recipe: expected `recipes` on its class, such as {{"lite": lite()}} of '
                'methods.recipes.lite. docs/adding-a-method.md, "Train it", shows a whole one.'
            )
        raise MethodError(unknown_name(f"recipe of {cls.info.title}", name, cls.recipes))
    return cls.recipes[name]


def recipe_settings(method: str, name: str) -> tuple[str, ...]:
    """A recipe's fields of the method's config, as `--set` has them."""
    known = find_method(method).Config.model_fields
    values = find_recipe(method, name).settings.items()
    return tuple(f"{field}={as_text(value)}" for field, value in values if field in known)


def plan(request: TrainRequest, classes: int) -> tuple[Recipe, Method]:
    """The recipe with the user's changes, and the method as it starts, to be trained on so many classes.

    Raises `MethodError` for an unknown recipe, and for a base learner that is set to learn another number of classes.
    """
    cls, recipe = find_method(request.method), find_recipe(request.method, request.recipe)
    last: dict[str, Any] = {
        name: value
        for name, value in (("steps", request.steps), ("batch", request.batch), ("shots", request.shots))
        if value is not None
    }
    if request.steps is not None:
        last["epochs"] = 0
    recipe = replace(recipe, stages=(*recipe.stages[:-1], replace(recipe.stages[-1], **last)))
    chosen = [f"base_classes={classes}"] if "base_classes" in cls.Config.model_fields else []
    chosen += recipe_settings(request.method, request.recipe)
    chosen += [f"backbone={request.backbone}"] if request.backbone else []
    config = parse_settings(cls.Config, (*chosen, *request.settings))
    learned = getattr(config, "base_classes", classes)
    if learned != classes:
        raise MethodError(
            f"base_classes: expected the {classes} classes that {request.dataset} leaves for training, found "
            f"{learned}. Leave the setting out."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        method = cls(config)
    if request.start == "imagenet" and any(isinstance(module, Backbone) for module in method.modules()):
        load_imagenet(method)
    return recipe, method
