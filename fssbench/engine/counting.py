"""From logits to six integers an episode and way: resize, argmax, compare with the label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fssbench.method import VOID, Preprocess, strongest

if TYPE_CHECKING:
    from fssbench.method import Method
    from fssbench.protocol import Protocol


@dataclass(frozen=True)
class Resolution:
    """Where prediction and label are compared.

    `original`: at the query's own size. `square`: both at `side` x `side`, the label resized by nearest. `padded`: on
    a square of the query's longer side (or of `side`), as PFENet does: the prediction is stretched from the network's
    whole canvas, the label is placed top left and the rest is 255.
    """

    kind: Literal["original", "square", "padded"] = "original"
    side: int | None = None

    @classmethod
    def of(cls, protocol: Protocol) -> Resolution:
        """Where predictions are scored under a protocol."""
        scoring = protocol.scoring
        return cls() if isinstance(scoring, str) else cls(scoring[0], scoring[1])


def labels_at(
    method: Method, logits: Tensor, ways: int, size: tuple[int, int], how: Preprocess, resolution: Resolution
) -> Tensor:
    """Labels, B x H x W with 0..N, of queries of one size from their logits, at the scoring resolution.

    `logits` is B x (1 + N) x h x w or B x S x (1 + N) x h x w; with `ways` above N = 1 they are one-way logits, B x
    ways x ..., merged by taking in each pixel the strongest way of those that claim it.
    """
    target = _target(size, resolution)
    full = _resize(method, logits, size, how, target, resolution)
    if ways == 1 or logits.shape[-3] == 1 + ways:
        return method.decide(full)
    claimed: Tensor = method.decide(full.flatten(0, 1)).unflatten(0, full.shape[:2]) > 0  # B x ways x H x W
    margin = full[..., 1, :, :] - full[..., 0, :, :]
    if margin.dim() == 5:  # B x ways x S x H x W
        margin = margin.mean(2)
    best = strongest(margin.masked_fill(~claimed, -torch.inf), 1) + 1
    return best * claimed.any(1)


def truth_at(truth: Tensor, resolution: Resolution) -> Tensor:
    """A query's truth (H x W uint8) at the scoring resolution."""
    height, width = truth.shape
    if resolution.kind == "original":
        return truth
    if resolution.kind == "square":
        return _nearest(truth, _target((height, width), resolution))
    target = _target((height, width), resolution)
    if resolution.side is not None:
        ratio = resolution.side / max(height, width)
        truth = _nearest(truth, (round(height * ratio), round(width * ratio)))
    canvas = truth.new_full(target, VOID)
    canvas[: truth.shape[0], : truth.shape[1]] = truth
    return canvas


def count(prediction: Tensor, truth: Tensor, ways: int) -> Tensor:
    """Rows of 6 integers: TP, FP, FN, TN over valid pixels, 255 predicted as the way, 255 not predicted as it.

    `prediction` holds 0..N and `truth` 0..N or 255. One row a way, for which all else is background; with several
    ways a row for the background itself comes first, since it cannot be had from theirs.

    >>> count(torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 255, 1]]), 1)
    tensor([[1, 1, 1, 0, 0, 1]])
    """
    table = pair_table(prediction, columns_of(truth, ways), ways)
    return torch.from_numpy(counts_of(table.cpu().numpy()))


def columns_of(truth: Tensor, ways: int) -> Tensor:
    """Each pixel's column in `pair_table`: 0..N as in `truth`, N + 1 for 255."""
    return torch.where(truth == VOID, ways + 1, truth)


def pair_table(prediction: Tensor, columns: Tensor, ways: int) -> Tensor:
    """How often each (prediction, truth) pair occurs: (1 + N) x (2 + N) integers, 255 in the last column.

    Stays on the device: `bincount` would wait for it, to learn how long its result is.
    """
    pairs = (ways + 1) * (ways + 2)
    pair = torch.add(columns.long(), prediction, alpha=ways + 2).flatten()
    table = pair.new_zeros(pairs).scatter_add_(0, pair, pair.new_ones(1).expand(len(pair)))
    return table.view(ways + 1, ways + 2)


def counts_of(tables: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of `count` from tables of pairs: ... x (1 + N) x (2 + N) to ... x rows x 6."""
    valid, ignored = tables[..., :-1], tables[..., -1]
    tp = np.diagonal(valid, axis1=-2, axis2=-1)
    fp, fn = valid.sum(-1) - tp, valid.sum(-2) - tp
    tn = valid.sum((-2, -1))[..., None] - tp - fp - fn
    rows = np.stack([tp, fp, fn, tn, ignored, ignored.sum(-1, keepdims=True) - ignored], -1)
    return rows[..., 1:, :] if tables.shape[-2] == 2 else rows


def _target(size: tuple[int, int], resolution: Resolution) -> tuple[int, int]:
    if resolution.kind == "original":
        return size
    side = resolution.side or max(size)
    return side, side


def _resize(
    method: Method,
    logits: Tensor,
    size: tuple[int, int],
    how: Preprocess,
    target: tuple[int, int],
    resolution: Resolution,
) -> Tensor:
    """Logits at `target`; of a padded input only the image's own part counts, unless the protocol stretches it all."""
    shape = logits.shape
    flat = logits.reshape(-1, 1, *shape[-2:]).float()
    if resolution.kind == "padded" and how.fit != "pad":
        ratio = target[0] / max(size)
        content = round(size[0] * ratio), round(size[1] * ratio)
        inside = _bilinear(flat, content, method.align_corners)
        flat = F.pad(inside, (0, target[1] - content[1], 0, target[0] - content[0]))
    elif how.fit == "pad" and how.size is not None and resolution.kind != "padded":
        height, width = how.fitted(*size)
        flat = _bilinear(flat, how.size, method.align_corners)[..., :height, :width]
    return _bilinear(flat, target, method.align_corners).reshape(*shape[:-2], *target)


def _bilinear(maps: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)


def _nearest(labels: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].to(labels.dtype)
