"""The contract that every method fulfils.

A method is a `torch.nn.Module` with an encoder that looks at one image at a time, an optional part that
looks at one support image and its mask, and a head that segments episodes. The engine decides what is
computed when, caches what can be cached, resizes, takes the argmax and scores; a method never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from fssbench.batches import BACKGROUND as BACKGROUND
from fssbench.batches import OBJECT as OBJECT
from fssbench.batches import OTHER_WAY as OTHER_WAY
from fssbench.batches import UNLABELLED as UNLABELLED
from fssbench.batches import VOID as VOID
from fssbench.batches import EpisodeBatch as EpisodeBatch
from fssbench.batches import Features as Features
from fssbench.batches import SupportBatch as SupportBatch
from fssbench.batches import foreground as foreground
from fssbench.batches import warn_if_empty as warn_if_empty
from fssbench.errors import CheckpointError
from fssbench.official import load_converted as load_converted
from fssbench.official import strip_prefix as strip_prefix

if TYPE_CHECKING:
    from fssbench.training.recipe import Recipe


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a network's input: (RGB / 255 - mean) / std at `size`.

    `squash` ignores the aspect ratio; `pad` keeps it, rounds both sides down to `multiple` and puts the image
    top left on a black canvas (labels: 255); `native` leaves the size alone, so batches hold one image.
    Images are resized bilinearly by Pillow, labels by nearest.
    """

    size: tuple[int, int] | None = (417, 417)  # height, width; None with `native`
    fit: Literal["squash", "pad", "native"] = "squash"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    multiple: int = 1

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image of `height` x `width` is resized to, before any padding."""
        if self.size is None or self.fit == "native":
            return height, width
        if self.fit == "squash":
            return self.size
        ratio = min(self.size[0] / height, self.size[1] / width)

        def rounded(side: int) -> int:
            return max(self.multiple, int(side * ratio + 1e-6) // self.multiple * self.multiple)

        return rounded(height), rounded(width)


class MethodConfig(BaseModel):
    """Typed options of a method. Every field can be set on the command line by `--set field=value`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    retired: ClassVar[frozenset[str]] = frozenset()  # options of earlier versions, which checkpoints may still name

    backbone: str

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in cls.retired}


@dataclass(frozen=True)
class MethodInfo:
    """What a table says about a method."""

    title: str  # as the field writes it: "PANet"
    paper: str
    venue: str
    year: int
    url: str
    code: str | None  # the authors' repository, if any
    backbones: tuple[str, ...]  # the paper's own; any other goes by option
    our_reading: bool = False  # of a paper without public code, or of code whose outputs cannot be repeated
    untrained: bool = False  # gives sensible masks without training
    trainable: bool = True
    baseline: bool = False  # plain, and nobody's method
    annotations: tuple[str, ...] = ("mask",)
    supervision: str = "mask"
    max_ways: int | None = 1  # None: any; 1: run once a way and merged by the engine
    uses_auxiliary: bool = False
    base_learner: bool = False  # trained in two steps; its loss asks for `classes` and `base_labels`


@dataclass(frozen=True)
class Term:
    """A loss as a mean that can be taken over several processes: the sum, and what it is a mean over."""

    total: Tensor  # scalar
    count: Tensor  # scalar, no gradient

    def mean(self) -> Tensor:
        """The mean; 0 where there is nothing to take it over."""
        return self.total / self.count.clamp_min(1e-12)


class Method(nn.Module):
    """Base of all methods. Subclasses set `info`, `Config`, `encoder`, and write `segment` and `loss`.

    `encoder` maps B x 3 x H x W to named features and knows nothing of the method; methods whose encoders have
    equal settings and weights share one pass over the images. `project` is the method's own per-image part.
    """

    info: ClassVar[MethodInfo]
    Config: ClassVar[type[MethodConfig]]
    align_corners: ClassVar[bool] = False  # of the bilinear resize from logits to pixels
    encodes_support: ClassVar[bool] = True  # False: `encode` is never called for support images
    # How training encodes: BatchNorm on batch statistics sees it. With `shot_by_shot` each shot in a pass of its own.
    supports_first: ClassVar[bool] = True
    shot_by_shot: ClassVar[bool] = False
    recipes: ClassVar[Mapping[str, Recipe]] = {}  # "paper": as its authors trained it; "lite": small and comparable
    work_bytes: int = 256 << 20  # a head's largest intermediate maps stay below this; set by the engine, not by users
    checked_with: ClassVar[tuple[str, ...]] = ()  # settings, as `--set`, that make it small for `fssbench conformance`

    encoder: nn.Module
    query_input: Preprocess

    def __init__(self, config: MethodConfig) -> None:
        super().__init__()
        self.config: Any = config

    @property
    def support_input(self) -> Preprocess:
        """How support images are preprocessed; as the query unless a method differs."""
        return self.query_input

    def encode(self, images: Tensor) -> Features:
        """B x 3 x H x W -> name: B x C x h x w. A pure function of each image; query- and support-agnostic."""
        return self.project(self.encoder(images))

    def encode_query(self, images: Tensor) -> Features:
        """What training encodes queries by, where batch statistics need more than `encode` to be as published."""
        return self.encode(images)

    def project(self, features: Features) -> Features:
        """The method's own layers on the encoder's features of one image. Identity by default."""
        return features

    def encode_support(self, support: SupportBatch) -> Features:
        """What is needed of each support image and its label alone: name -> M x ..., cached by image and class.

        The default keeps the image's features. A method that pools a prototype returns just that, and the
        engine then holds a vector where it would hold a map.
        """
        return support.features

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits, B x (1 + N) x h x w, background first, for any B, K and (up to `max_ways`) N.

        Features are shared by episodes, within the batch and beyond it: never change them in place.
        A method that fuses shots only after the argmax returns B x S x (1 + N) x h x w and overrides `decide`.
        """
        raise NotImplementedError

    def decide(self, logits: Tensor) -> Tensor:
        """Full-resolution logits to labels, B x H x W with values 0..N. Argmax unless a paper votes."""
        return strongest(logits, 1)

    def losses(self, episodes: EpisodeBatch) -> Mapping[str, Tensor | Term]:
        """The terms of the training loss, by name and without their weights, of episodes with `query_labels`.

        A plain tensor (a scalar) is a mean over the episodes.
        """
        raise NotImplementedError

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Factors on the terms of `losses`, where they are not 1."""
        return {}

    def loss(self, episodes: EpisodeBatch) -> Tensor:
        """The training loss (a scalar): the weighted sum of `losses`."""
        means = {name: term.mean() if isinstance(term, Term) else term for name, term in self.losses(episodes).items()}
        return torch.stack([self.loss_weights.get(name, 1.0) * value for name, value in means.items()]).sum()

    def base_loss(self, images: Tensor, labels: Tensor) -> Tensor | Term:
        """The loss of a base learner (`info.base_learner`): B x 3 x H x W images, B x H x W labels of all base classes.

        Labels are 0, 1 + the place of a base class, or 255.
        """
        raise NotImplementedError

    def train_base(self) -> Self:
        """The mode that the base learner is trained in."""
        raise NotImplementedError

    @classmethod
    def official_settings(cls, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Fields of the config that the authors' state dict decides by its shapes, as `--set` has them."""
        return ()

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load the authors' published state dict (their names). Every key is consumed or listed in the error."""
        raise CheckpointError(
            f"{self.info.title} has no converter for checkpoints of its authors: expected `load_official` to be "
            "implemented. Train the method with fssbench, or write the converter."
        )


def strongest(logits: Tensor, dim: int) -> Tensor:
    """`logits.argmax(dim)` as uint8, ties to the first; a hundred times faster on a CPU where `dim` is short.

    >>> strongest(torch.tensor([[0.0, 2.0], [1.0, 1.0], [1.0, 3.0]]), 0)
    tensor([1, 2], dtype=torch.uint8)
    """
    best, *others = logits.unbind(dim)
    label: Tensor | None = None
    for number, other in enumerate(others, 1):
        higher = other > best
        label = higher.to(torch.uint8) if label is None else torch.where(higher, number, label)
        best = torch.maximum(best, other) if number < len(others) else best
    return torch.zeros_like(best, dtype=torch.uint8) if label is None else label


def build_episodes(
    method: Method,
    query: Tensor,
    support: Tensor,
    support_labels: Tensor,
    query_labels: Tensor | None = None,
    auxiliary: Tensor | None = None,
    classes: Tensor | None = None,
    base_labels: Tensor | None = None,
) -> EpisodeBatch:
    """Episodes from pixels, with gradients and without any cache: what training and tests use.

    `query` B x 3 x H x W; `support` B x N x K x 3 x H x W; `support_labels` B x N x K x H x W uint8;
    `query_labels` B x H x W; `auxiliary` B x N x A x 3 x H x W. All preprocessed. `classes` and `base_labels` as in
    `EpisodeBatch`, for the losses of methods with a base learner.
    """
    b, n, k = support_labels.shape[:3]
    warn_if_empty(support_labels)
    pixels, labels = support.flatten(0, 2), support_labels.flatten(0, 2)
    features = method.encode(pixels) if method.encodes_support else {}
    return EpisodeBatch.of(
        (b, n, k),
        (query.shape[-2], query.shape[-1]),
        method.encode(query),
        method.encode_support(SupportBatch(features, labels, lambda: pixels, k)),
        labels,
        auxiliary=None if auxiliary is None else method.encode(auxiliary.flatten(0, 2)),
        query_pixels=query,
        support_pixels=pixels,
        query_labels=query_labels,
        classes=classes,
        base_labels=base_labels,
    )


def finite(logits: Tensor) -> bool:
    """Whether no logit is NaN or infinite."""
    return bool(torch.isfinite(logits).all())
