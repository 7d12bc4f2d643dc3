"""PerSAM: Personalize Segment Anything Model with One Shot (ICLR 2024), the training-free variant.

The mean of SAM's features inside the support's mask is the target; the most and the least similar pixel of the query
prompt SAM's mask decoder, whose attention the similarity guides; two further passes refine its mask.

Ours computes what the authors' code computes, from images and masks at their own sizes. Differences: K shots are the
mean of their targets (the code knows one); a mask that vanishes on the grid gives its most covered cells where theirs
gives NaN; an empty mask after the second pass leaves out the box where theirs stops. PerSAM-F is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fssbench.method import (
    OBJECT,
    EpisodeBatch,
    Features,
    Method,
    MethodConfig,
    MethodInfo,
    Preprocess,
    SupportBatch,
    load_converted,
)
from methods.sam import MEAN, STD, Guide, Sam, SamSizes, fitted, our_names, resized, sam_named


class PerSAMConfig(MethodConfig):
    """Options of PerSAM."""

    backbone: str = Field("sam_vit_h", description="the SAM: sam_vit_b, sam_vit_l or sam_vit_h")
    mask_value: int = Field(
        128, ge=1, le=255, description="of the object in the mask's image; a cell needs a mean above 123.675"
    )
    sizes: SamSizes | None = Field(None, description="of another SAM; not from the command line")


@dataclass(frozen=True)
class Pass:
    """One pass of the decoder: M x 4g x 4g logits, M qualities, M x h x w masks."""

    logits: Tensor
    qualities: Tensor
    masks: Tensor

    @property
    def best(self) -> Tensor:
        """The place of the mask with the highest quality, 1."""
        return self.qualities.argmax(0, keepdim=True)

    @property
    def best_logits(self) -> Tensor:
        """Its logits, 1 x 1 x 4g x 4g."""
        return self.logits.index_select(0, self.best)[None]


@dataclass(frozen=True)
class Trace:
    """What leads to the mask of one query."""

    similarity: Tensor  # g x g
    full_similarity: Tensor  # h x w
    points: Tensor  # 2 x 2: (x, y) of the most and the least similar pixel
    guidance: Tensor  # g x g
    box: Tensor | None  # x_min, y_min, x_max, y_max
    passes: tuple[Pass, Pass, Pass]


class PerSAM(Method):
    """SAM, prompted by similarity with the support."""

    info = MethodInfo(
        title="PerSAM",
        paper="Personalize Segment Anything Model with One Shot",
        venue="ICLR",
        year=2024,
        url="https://arxiv.org/abs/2305.03048",
        code="https://github.com/ZrrSkywalker/Personalize-SAM",
        backbones=("sam_vit_h",),
        untrained=True,
        trainable=False,
    )
    Config = PerSAMConfig
    checked_with = ("backbone=sam_test",)
    config: PerSAMConfig

    def __init__(self, config: PerSAMConfig) -> None:
        super().__init__(config)
        self.encoder: Sam = sam_named(config.backbone, config.sizes).requires_grad_(False)
        # SAM's own resizing and padding need to know an image's size, and points lie in its pixels.
        self.query_input = Preprocess(None, "native", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def encode(self, images: Tensor) -> Features:
        """SAM's features, B x C x g x g."""
        return {"sam": self.encoder.encode(images)}

    def encode_support(self, support: SupportBatch) -> Features:
        """The target, M x C: the mean feature of the selected cells."""
        selected = torch.stack([self.selected(labels) for labels in support.labels]).float()  # M x g x g
        sums = torch.einsum("mchw,mhw->mc", support.features["sam"], selected)
        return {"target": sums / selected.sum((1, 2)).clamp_min(1).unsqueeze(1)}

    def selected(self, labels: Tensor) -> Tensor:
        """The cells that are object, g x g bool; the most covered where none is enough, none without an object."""
        inside = self.mask_grid(labels) > 0
        covered = F.adaptive_avg_pool2d(self._padded(self._picture(labels, 255))[None], self.encoder.sizes.grid)[0]
        return torch.where(inside.any(), inside, (covered == covered.amax()) & (covered > 0))

    def mask_grid(self, labels: Tensor) -> Tensor:
        """A label, h x w, as an image of `mask_value` that went the way of images, g x g; padding is 0."""
        grid = self.encoder.sizes.grid
        normal = self._padded((self._picture(labels, self.config.mask_value) - MEAN[0]) / STD[0])
        return F.interpolate(normal[None, None], (grid, grid), mode="bilinear")[0, 0]

    def _picture(self, labels: Tensor, value: int) -> Tensor:
        return resized((labels == OBJECT).to(torch.uint8) * value, self.encoder.sizes.img_size).float()

    def _padded(self, picture: Tensor) -> Tensor:
        side = self.encoder.sizes.img_size
        return F.pad(picture, (0, side - picture.shape[1], 0, side - picture.shape[0]))

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x h x w at the query's own size: zeros, and the logits of the last pass's best mask."""
        targets = episodes.support["target"][:, 0].mean(1)
        logits = []
        for features, target in zip(episodes.query["sam"], targets, strict=True):
            last = self.trace(features[None], target, episodes.query_shape).passes[2]
            logits.append(self.encoder.at_size(last.best_logits, episodes.query_shape)[0])
        foreground = torch.stack(logits)
        return torch.cat([torch.zeros_like(foreground), foreground], dim=1)

    def trace(self, features: Tensor, target: Tensor, size: tuple[int, int]) -> Trace:
        """The three passes on a query: features 1 x C x g x g, target C, its own size (height, width)."""
        similarity = torch.einsum("c,chw->hw", F.normalize(target, dim=0), F.normalize(features[0], dim=0))
        enlarged = F.interpolate(similarity[None, None], scale_factor=4, mode="bilinear")
        full = self.encoder.at_size(enlarged, size)[0, 0]
        places = torch.stack([full.argmax(), full.argmin()])
        points = torch.stack([places % size[1], places // size[1]], dim=1)
        standard = (full - full.mean()) / full.std().clamp_min(1e-12)
        guidance = F.interpolate(standard[None, None], tuple(similarity.shape), mode="bilinear")[0, 0].sigmoid()
        guide = Guide(target.view(1, 1, -1), guidance.view(1, 1, 1, -1))
        prompt = self._scaled(points, size)[None], torch.tensor([[1, 0]], device=features.device)
        first = self._pass(*self.encoder.decode(features, prompt, guide=guide), slice(0, 1), size)
        second = self._pass(*self.encoder.decode(features, prompt, mask=first.logits[None]), slice(1, None), size)
        box = _box(second.masks.index_select(0, second.best)[0])
        third = self.encoder.decode(
            features,
            prompt,
            box=None if box is None else self._scaled(box.view(2, 2), size).view(1, 4),
            mask=second.best_logits,
        )
        passes = first, second, self._pass(*third, slice(1, None), size)
        return Trace(similarity, full, points, guidance, box, passes)

    def _pass(self, logits: Tensor, qualities: Tensor, kept: slice, size: tuple[int, int]) -> Pass:
        chosen = logits[:, kept]
        return Pass(chosen[0], qualities[0, kept], self.encoder.at_size(chosen, size)[0] > 0)

    def _scaled(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """(x, y) of an image of `size`, in SAM's input."""
        height, width = fitted(size, self.encoder.sizes.img_size)
        scale = torch.tensor([width / size[1], height / size[0]], dtype=torch.float64, device=points.device)
        return (points.double() * scale).float()

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a published SAM: PerSAM has no weights of its own."""
        load_converted(self, {f"encoder.{name}": value for name, value in our_names(state).items()})


def _box(mask: Tensor) -> Tensor | None:
    """x_min, y_min, x_max, y_max of a mask's pixels, inclusive; None where there is none."""
    if not mask.any():  # a value to wait for: without a box SAM's decoder gets fewer tokens
        return None
    sides = [mask.any(0).byte(), mask.any(1).byte()]
    first, last = [side.argmax() for side in sides], [len(side) - 1 - side.flip(0).argmax() for side in sides]
    return torch.stack(first + last)
