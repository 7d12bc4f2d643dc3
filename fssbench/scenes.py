"""Small rendered episodes as tensors, for checks of methods and for timing their heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fssbench.engine.assemble import one_by_one
from fssbench.method import OBJECT, EpisodeBatch, Method, Preprocess, build_episodes

NATIVE = (64, 96)  # of images for methods that take any size


@dataclass(frozen=True)
class Pixels:
    """Rendered episodes: what `build_episodes` takes."""

    query: Tensor  # B x 3 x H x W
    support: Tensor  # B x N x K x 3 x H x W
    support_labels: Tensor  # B x N x K x H x W
    query_labels: Tensor  # B x H x W
    auxiliary: Tensor | None  # B x N x 2 x 3 x H x W

    def built(self, method: Method, *, cached: bool = False) -> EpisodeBatch:
        """Episodes, encoded all at once or (`cached`) one image at a time."""
        build = one_by_one if cached else build_episodes
        return build(
            method,
            self.query,
            self.support,
            self.support_labels,
            self.query_labels,
            self.auxiliary,
            classes=torch.zeros_like(self.query_labels[:, 0, 0]),  # the first way is the first base class
            base_labels=self.query_labels,
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Pixels:
        """The same with every tensor changed."""
        return Pixels(
            change(self.query),
            change(self.support),
            change(self.support_labels),
            change(self.query_labels),
            None if self.auxiliary is None else change(self.auxiliary),
        )

    def only(self, b: int) -> Pixels:
        """One of the episodes."""
        return self.mapped(lambda tensor: tensor[b : b + 1])


def render(method: Method, b: int = 1, n: int = 1, k: int = 1, seed: int = 0) -> Pixels:
    """Episodes with one bright or dark, tinted rectangle for each way on a noisy ground."""
    draw = torch.Generator().manual_seed(seed)
    query, truth = zip(*(_scene(method.query_input, list(range(n)), draw) for _ in range(b)), strict=True)
    count = range(b * n * k)
    scenes = [_scene(method.support_input, [i // k % n], draw) for i in count]
    support, labels = zip(*scenes, strict=True)
    codes = torch.stack(labels).clamp_max(OBJECT).to(torch.uint8)
    auxiliary = None
    if method.info.uses_auxiliary:
        seen = [_scene(method.query_input, [i // 2 % n], draw)[0] for i in range(b * n * 2)]
        auxiliary = torch.stack(seen).unflatten(0, (b, n, 2))
    shape = (b, n, k)
    return Pixels(
        torch.stack(query),
        torch.stack(support).unflatten(0, shape),
        codes.unflatten(0, shape),
        torch.stack(truth),
        auxiliary,
    )


def _scene(how: Preprocess, ways: list[int], draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """3 x H x W pixels as preprocessed, and H x W labels with 1 + the number of each way."""
    height, width = how.size or NATIVE
    image = 0.45 + 0.1 * torch.rand(3, height, width, generator=draw)
    labels = torch.zeros(height, width, dtype=torch.int64)
    for place, way in enumerate(ways):
        tint = torch.tensor([[0.95, 0.1, 0.1], [0.1, 0.1, 0.95]][way]).view(3, 1, 1)
        column = place * width // len(ways)  # ways stand side by side
        top = int(torch.randint(height // 8, height // 4, (1,), generator=draw))
        left = column + int(torch.randint(width // 16, width // 8, (1,), generator=draw))
        box = slice(top, top + height // 2), slice(left, left + width // (2 * len(ways)))
        image[:, box[0], box[1]] = 0.5 * image[:, box[0], box[1]] + 0.5 * tint
        labels[box] = 1 + way
    mean, std = torch.tensor(how.mean).view(3, 1, 1), torch.tensor(how.std).view(3, 1, 1)
    pixels = (image - mean) / std
    return (pixels.flip(0) if how.channels == "bgr" else pixels).contiguous(), labels
