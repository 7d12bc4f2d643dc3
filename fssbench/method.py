"""The contract that every method fulfils.

A method is a `torch.nn.Module` with an encoder that looks at one image at a time, an optional part that
looks at one support image and its mask, and a head that segments episodes. The engine decides what is
computed when, caches what can be cached, resizes, takes the argmax and scores; a method never does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from fssbench.datasets import masks
from fssbench.errors import CheckpointError, EmptySupportWarning

if TYPE_CHECKING:
    from fssbench.training.recipe import Recipe

Features = dict[str, Tensor]

# What a pixel of a support label can be. A query label has 0, 1..N (its way) and 255.
BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID = 0, 1, 2, 3, masks.VOID

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
class SupportBatch:
    """M support images with their labels, each to be looked at on its own."""

    features: Features  # what `encode` gave: name -> M x C x h x w; empty if not `encodes_support`
    labels: Tensor  # M x H x W uint8: BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID
    load_pixels: Callable[[], Tensor] = field(repr=False)
    shots: int = 1  # in training: so many that follow each other belong to one episode and way

    @cached_property
    def pixels(self) -> Tensor:
        """M x 3 x H x W, preprocessed. Loaded on first use."""
        return self.load_pixels()

    @property
    def foreground(self) -> Tensor:
        """M x 1 x H x W, 1.0 where the pixel is labelled as the object."""
        return foreground(self.labels).unsqueeze(1)


@dataclass(frozen=True)
class Term:
    """A loss as a mean that can be taken over several processes: the sum, and what it is a mean over."""

    total: Tensor  # scalar
    count: Tensor  # scalar, no gradient

    def mean(self) -> Tensor:
        """The mean; 0 where there is nothing to take it over."""
        return self.total / self.count.clamp_min(1e-12)


Loaded = Callable[[], Tensor]


@dataclass(frozen=True)
class EpisodeBatch:
    """B episodes of N ways and K shots, as `Method.segment` and `Method.loss` see them. Made by `EpisodeBatch.of`."""

    query: Features  # what `encode` gave: name -> B x C x h x w
    support: Features  # what `encode_support` gave: name -> B x N x K x ...
    size: tuple[int, int, int]  # B, N, K
    query_shape: tuple[int, int]  # H x W of the query's network input
    load_support_labels: Loaded = field(repr=False)  # these three: loaded on first use
    auxiliary: Features | None = None  # what `encode` gave for images known by class only: B x N x A x C x h x w
    query_labels: Tensor | None = None  # B x H x W int64: 0, 1..N, 255; training only
    classes: Tensor | None = None  # B int64: place of the (first way's) class among the base classes; training only
    base_labels: Tensor | None = None  # B x H x W int64: the query's 0, 1 + place of the base class, 255; training only
    load_query_pixels: Loaded | None = field(default=None, repr=False)
    load_support_pixels: Loaded | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        size: tuple[int, int, int],
        query_shape: tuple[int, int],
        query: Features,
        support: Features,
        labels: Tensor | Loaded,
        *,
        auxiliary: Features | None = None,
        query_pixels: Tensor | Loaded | None = None,
        support_pixels: Tensor | Loaded | None = None,
        query_labels: Tensor | None = None,
        classes: Tensor | None = None,
        base_labels: Tensor | None = None,
    ) -> EpisodeBatch:
        """Episodes from lists of their parts, episodes outermost, then ways, then shots.

        `support`, `labels` and `support_pixels` hold B N K items, `auxiliary` B N A, the others B. Labels and pixels
        may be given as functions, which are called when a method asks for them.
        """
        b, n, _ = size
        return cls(
            query=query,
            support={name: value.unflatten(0, size) for name, value in support.items()},
            size=size,
            query_shape=query_shape,
            load_support_labels=lambda: _loaded(labels).unflatten(0, size),
            auxiliary=None
            if auxiliary is None
            else {name: value.unflatten(0, (b, n, -1)) for name, value in auxiliary.items()},
            query_labels=query_labels,
            classes=classes,
            base_labels=base_labels,
            load_query_pixels=None if query_pixels is None else lambda: _loaded(query_pixels),
            load_support_pixels=None if support_pixels is None else lambda: _loaded(support_pixels).unflatten(0, size),
        )

    @cached_property
    def support_labels(self) -> Tensor:
        """B x N x K x H x W uint8, see `SupportBatch.labels`. Loaded on first use."""
        return self.load_support_labels()

    @cached_property
    def query_pixels(self) -> Tensor:
        """B x 3 x H x W, preprocessed. Loaded on first use."""
        if self.load_query_pixels is None:
            raise RuntimeError("this EpisodeBatch was built without query pixels")
        return self.load_query_pixels()

    @cached_property
    def support_pixels(self) -> Tensor:
        """B x N x K x 3 x H x W, preprocessed. Loaded on first use."""
        if self.load_support_pixels is None:
            raise RuntimeError("this EpisodeBatch was built without support pixels")
        return self.load_support_pixels()

    @property
    def support_foreground(self) -> Tensor:
        """B x N x K x H x W, 1.0 where the pixel is labelled as its way's object."""
        return foreground(self.support_labels)

    def select(self, episodes: slice) -> EpisodeBatch:
        """Some of the episodes, as views."""
        return self._changed(lambda x: x[episodes], lambda x: x[episodes])

    def expand(self, times: int) -> EpisodeBatch:
        """One episode `times` times, as views. Raises `ValueError` for a batch of several."""
        if self.size[0] != 1:
            raise ValueError(f"expected a batch of 1 episode to repeat, found {self.size[0]}")
        return self._changed(lambda x: x.expand(times, *x.shape[1:]), lambda x: x.expand(times, *x.shape[1:]))

    def way(self, way: int) -> EpisodeBatch:
        """The 1-way episodes of one way, as views. For inference: labels of queries are left out."""
        one = self._changed(lambda x: x, lambda x: x[:, way : way + 1])
        return replace(one, query_labels=None, classes=None, base_labels=None)

    def shots(self, count: int) -> EpisodeBatch:
        """The episodes with their first `count` supports a way, as views."""
        return self._changed(lambda x: x, lambda x: x[:, :, :count], auxiliary=lambda x: x)

    def _changed(
        self,
        episodes: Callable[[Tensor], Tensor],
        supports: Callable[[Tensor], Tensor],
        auxiliary: Callable[[Tensor], Tensor] | None = None,
    ) -> EpisodeBatch:
        """A view: `episodes` on what leads with B, `supports` on what leads with B x N x K (or A)."""

        def of_episodes(value: Tensor | None) -> Tensor | None:
            return None if value is None else episodes(value)

        query_pixels, support_pixels = self.load_query_pixels, self.load_support_pixels
        b, n, k = supports(torch.empty(self.size, device="meta")).shape
        return EpisodeBatch(
            query={name: episodes(value) for name, value in self.query.items()},
            support={name: supports(value) for name, value in self.support.items()},
            size=(b, n, k),
            query_shape=self.query_shape,
            load_support_labels=lambda: supports(self.support_labels),
            auxiliary=None
            if self.auxiliary is None
            else {name: (auxiliary or supports)(value) for name, value in self.auxiliary.items()},
            query_labels=of_episodes(self.query_labels),
            classes=of_episodes(self.classes),
            base_labels=of_episodes(self.base_labels),
            load_query_pixels=None if query_pixels is None else lambda: episodes(self.query_pixels),
            load_support_pixels=None if support_pixels is None else lambda: supports(self.support_pixels),
        )


def _loaded(value: Tensor | Loaded) -> Tensor:
    return value if isinstance(value, Tensor) else value()


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


def foreground(labels: Tensor) -> Tensor:
    """1.0 where a support label is the object."""
    return (labels == OBJECT).float()


def warn_if_empty(labels: Tensor) -> None:
    """An `EmptySupportWarning` if any support, ... x H x W, has no pixel of its object."""
    empty = ~(labels == OBJECT).flatten(-2).any(-1)
    if empty.any():
        warnings.warn(
            f"{int(empty.sum())} of {empty.numel()} supports have no pixel of their object at {labels.shape[-2]} x "
            f"{labels.shape[-1]}: expected at least one. Look at their masks, or choose a larger input.",
            EmptySupportWarning,
            stacklevel=3,
        )


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


def load_converted(method: nn.Module, state: Mapping[str, Tensor], unused: tuple[str, ...] = ()) -> None:
    """Load a state dict that was renamed to our names; refuse anything missing, left over or of another shape.

    `unused` names entries of the authors' files that are known to play no part (prefixes).
    """
    kept = {k: v for k, v in state.items() if not k.startswith(unused)} if unused else dict(state)
    ours = method.state_dict()
    missing = sorted(set(ours) - set(kept))
    foreign = sorted(set(kept) - set(ours))
    shapes = [
        f"{k} (expected {tuple(ours[k].shape)}, found {tuple(kept[k].shape)})"
        for k in sorted(set(ours) & set(kept))
        if ours[k].shape != kept[k].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        for title, names in (("missing", missing), ("not known", foreign), ("wrong shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the checkpoint does not fit {type(method).__name__}: {'; '.join(problems)}. "
            "Check method, backbone and config against those the checkpoint was trained with."
        )
    method.load_state_dict(dict(kept))


def strip_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel puts before every name."""
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def finite(logits: Tensor) -> bool:
    """Whether no logit is NaN or infinite."""
    return bool(torch.isfinite(logits).all())
