"""What several methods are made of: resizing, masked average pooling, cosine similarity.

Many codes pool a prototype by upsampling the features to the mask's size and averaging inside the mask. Both steps
are linear, so the same sums come from bringing the mask down with the adjoint (the transpose) of the upsampling:
a map of one channel is resized instead of one of hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fssbench.method import VOID, Term

# VGG-16's convolutions by block and number within it, both from 0: their places in torchvision's `features`.
VGG_CONVOLUTIONS = {
    (block, number): start + 2 * number
    for block, (start, count) in enumerate(((0, 2), (5, 2), (10, 3), (17, 3), (24, 3)))
    for number in range(count)
}


def cross_entropy(logits: Tensor, labels: Tensor, ignore: int | None = VOID) -> Term:
    """Cross entropy of B x C x H x W logits, over the pixels of B x H x W labels that are not `ignore`; in float32.

    By `gather`, as PyTorch's own 2D cross entropy has no deterministic gradient on CUDA.
    """
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    with torch.autocast(logits.device.type, enabled=False):
        likelihood = logits.float().log_softmax(1).gather(1, (labels * valid).unsqueeze(1)).squeeze(1)
    return Term(-(likelihood * valid).sum(), valid.sum())


def each_alone(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """`function` of rows that do not depend on each other: on a processor one at a time, else all at once.

    A processor gains no time by a batch of large maps, and needs the memory of all of them. Not while gradients are
    recorded: they would keep it all.
    """
    if rows[0].device.type != "cpu" or torch.is_grad_enabled():
        return function(*rows)
    return torch.cat([function(*row) for row in zip(*(each.split(1) for each in rows), strict=True)])


def resize(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """B x C x h x w -> B x C x H x W, bilinear; the map itself if it has that size already."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def adjoint_resize(masks: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """The transpose of `resize` from `size` to the masks' own size: M x R x H x W -> M x R x h x w, float32.

    For any map f of `size`: (resize(f) * mask).sum() == (f * adjoint_resize(mask)).sum(), so a mask's sum is kept.
    """
    rows = _interpolation(size[0], masks.shape[-2], align_corners, masks.device)  # h x H
    columns = _interpolation(size[1], masks.shape[-1], align_corners, masks.device)  # w x W
    with torch.autocast(masks.device.type, enabled=False):
        return rows @ masks.float() @ columns.T


def masked_sums(features: Tensor, masks: Tensor, align_corners: bool = False) -> Tensor:
    """Sums of upsampled features inside masks: M x C x h x w and M x R x H x W -> M x R x C, float32."""
    weights = adjoint_resize(masks, (features.shape[-2], features.shape[-1]), align_corners)
    with torch.autocast(features.device.type, enabled=False):
        return weights.flatten(2) @ features.float().flatten(2).transpose(1, 2)


def pool_prototypes(features: Tensor, masks: Tensor, eps: float = 1e-5, align_corners: bool = False) -> Tensor:
    """Mean of upsampled features inside masks: M x C x h x w and M x R x H x W -> M x R x C, float32.

    `eps` is added to the mask's area, so an empty mask gives a zero vector.
    """
    area = masks.float().sum((2, 3))
    return masked_sums(features, masks, align_corners) / (area + eps).unsqueeze(2)


def lengths(features: Tensor) -> Tensor:
    """Euclidean length of every position's vector: B x C x h x w -> B x 1 x h x w, float32."""
    length: Tensor = torch.linalg.vector_norm(features.float(), dim=1, keepdim=True)
    return length


def cosine_scores(features: Tensor, vectors: Tensor, known: Tensor | None = None, eps: float = 1e-8) -> Tensor:
    """Cosine similarity of each position with each vector: B x C x h x w and B x P x C -> B x P x h x w, float32.

    `known` are the `lengths` of the features, where they were computed before: once an image, not once an episode.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat, directions = features.float().flatten(2), F.normalize(vectors.float(), dim=2, eps=eps)
        dividend: Tensor = (directions @ flat).unflatten(2, features.shape[2:])
        return dividend / (lengths(features) if known is None else known).clamp_min(eps)


@lru_cache(maxsize=256)  # images of native size have many sizes
def _interpolation(small: int, large: int, align_corners: bool, device: torch.device) -> Tensor:
    """small x large: a row of `small` values times this matrix is the row resized linearly to `large`."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        unit = torch.eye(small, device=device).unsqueeze(0)
        return F.interpolate(unit, large, mode="linear", align_corners=align_corners)[0]
