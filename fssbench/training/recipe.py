"""Recipes: how a method is trained, as data. Torch-free; `fssbench.training` carries them out.

Names of parameters and modules are patterns (`fnmatch`) over the method's own names: "encoder.*", "*.bias".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal


@dataclass(frozen=True)
class Group:
    """Parameters that share a rate. A parameter belongs to the first group one of whose patterns matches."""

    match: tuple[str, ...] = ("*",)
    rate: float = 1.0  # times the optimiser's
    weight_decay: float | None = None  # None: the optimiser's
    clip: float | None = None  # largest L2 norm of this group's gradients together
    ndim: int | None = None  # only parameters of so many dimensions


@dataclass(frozen=True)
class Optimiser:
    """One of torch.optim's, with everything that is not its default."""

    kind: Literal["SGD", "Adam", "AdamW"]
    rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True)
class Schedule:
    """The factor on every group's rate at optimiser step i (from 0) of T."""

    power: float = 0.0  # poly: (1 - (i + first) / T) ** power
    first: int = 0  # what the first step counts as, in the poly rule
    milestones: tuple[int, ...] = ()  # steps from which on the rate is times `gamma`
    parts: int = 0  # the same at T * k // parts, for k from 1 to parts - 1
    tenths: int = 0  # the same after every T // tenths steps
    gamma: float = 0.1
    warmup: int = 0  # steps over which the rate rises linearly

    def factor(self, step: int, total: int) -> float:
        """The factor at optimiser step `step`, counted from 0."""
        value = max(0.0, 1 - (step + self.first) / total) ** self.power if self.power else 1.0
        drops = sum(step >= milestone for milestone in self.milestones)
        drops += sum(step >= total * k // self.parts for k in range(1, self.parts))
        drops += step // max(1, total // self.tenths) if self.tenths else 0
        value *= self.gamma**drops
        return value * min(1.0, (step + 1) / self.warmup) if self.warmup else value


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image and its labels, each image for itself. Sizes are the network input's."""

    flip: float = 0.0  # probability of a horizontal mirror image
    scale: tuple[float, float] | None = None  # factor on the fitted image's sides, uniform
    rotate: float = 0.0  # degrees either way, with probability 1/2
    blur: float = 0.0  # probability of a 5 x 5 Gaussian blur
    crop: bool = False  # a random window of the input's size; short images are padded, labels with 255
    keep_object: float = 0.0  # share of the object that the window has to hold, in up to 31 tries
    area: tuple[float, float] | None = None  # a random window of this share of the image, stretched to the input
    around_object: tuple[float, float] | None = None  # a window around the object, so much of its size away each side

    @property
    def finite(self) -> bool:
        """Whether an image has one or two forms only, so that features can be kept."""
        return self == Augmentation(flip=self.flip)


@dataclass(frozen=True)
class Stage:
    """One training: what is updated, how, on what.

    `frozen` parameters get no gradient. `evaluating` modules stay in eval mode; with `running_statistics` every
    BatchNorm does. `settings` are config fields during this stage only.
    """

    optimiser: Optimiser
    name: str = "train"
    kind: Literal["episodes", "base"] = "episodes"  # "base": single images with all base classes (`Method.base_loss`)
    groups: tuple[Group, ...] = (Group(),)
    schedule: Schedule = Schedule()
    steps: int = 1000
    epochs: int = 0  # instead of `steps`: so many passes over the training pairs (or images, as `draw` says)
    batch: int = 1  # episodes (or images) an optimiser step
    shots: int = 1
    ways: int = 1
    queries: int = 1  # of one class and with the same supports, so many follow each other in a batch
    auxiliary: int = 0  # images known by class only, a way; for methods that use them
    frozen: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()  # get gradients and are in no group, so that nothing moves them (HDMNet's `kshot_rw`)
    evaluating: tuple[str, ...] = ()
    running_statistics: bool = False
    clip: float | None = None  # largest L2 norm of all gradients together
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None  # network input in training; None: the method's own
    fit: Literal["squash", "pad", "native"] | None = None
    reversed_channels: bool = False  # pixels in BGR, normalised as if they were RGB
    void: Literal["ignored", "background", "object"] = "ignored"  # what 255 of a label becomes
    background: float = 1.0  # share of a query's background pixels that count in the losses, drawn for each episode
    query: Augmentation = Augmentation()
    support: Augmentation = Augmentation()
    draw: Literal["class", "image", "pair", "balanced"] = "class"  # what is drawn first, see `fssbench.training.stream`
    min_area: int | None = None  # px a class must cover; None: the protocol's for the data set
    novel_images: Literal["kept", "dropped"] = "kept"  # images that show held-out classes; kept: background there
    one_class: bool = False  # only images that show a single class

    def frozen_parameter(self, name: str) -> bool:
        """Whether a parameter gets no gradient."""
        return matches(name, self.frozen)

    def group_of(self, name: str, ndim: int) -> int | None:
        """The number of a parameter's group; None where no pattern matches."""
        for number, group in enumerate(self.groups):
            if matches(name, group.match) and group.ndim in (None, ndim):
                return number
        return None


@dataclass(frozen=True)
class Recipe:
    """A method's whole training: one stage after the other, with the quirks of the authors' code by name."""

    name: str  # "paper", "lite"
    stages: tuple[Stage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # config fields of the method that comes out
    quirks: tuple[str, ...] = ()  # what the authors' code does that changes numbers, and this recipe repeats
    reading: str = ""  # what is our choice, where the paper leaves one
    gpus: int = 1  # that its authors trained on: how many a cluster gives it; changes no loss

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether any of the patterns matches."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
