"""Episodes and supports as methods see them: features by name, labels, pixels that are loaded on first use."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from fssbench.datasets import masks
from fssbench.errors import EmptySupportWarning

Features = dict[str, Tensor]

# What a pixel of a support label can be. A query label has 0, 1..N (its way) and 255.
BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID = 0, 1, 2, 3, masks.VOID


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
