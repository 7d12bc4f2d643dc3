"""What our HSNet gives for a case of its authors' code."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fssbench.method import EpisodeBatch
from fssbench.parity import recipe
from fssbench.parity.case import Arrays, Case, Size
from methods.conv4d import correlation
from methods.hsnet import HSNet, HSNetConfig, aligned


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: correlations, logits of every shot, votes, and the 1-shot loss."""
    method = case.method(HSNet, HSNetConfig(backbone=case.meta["backbone"], size=case.size))
    items = case.meta["inputs"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_mask"]) for item in items])[:, None]
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels, truth)
        made = _segmented(case, method, episodes) | _inside(case, method, episodes)
        first = case.episodes(method, query, support[:, :, :1], labels[:, :, :1], truth)
        made["loss"] = method.loss(first)
    size = _scored_size(case)
    for name, masks in (("vote_out", _votes(case, size)), ("vote_low_out", _sparse_votes(case, size))):
        made[name] = method.decide(torch.from_numpy(np.stack([1 - masks, masks], axis=2)))
    return {name: value.numpy() for name, value in made.items()}


def _segmented(case: Case, method: HSNet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    low = method.segment(episodes)
    logits = _resized(low, case.size)
    as_returned = logits if case.meta["original_size"] is None else low
    return {
        "logits_low": low,
        "logits": as_returned,
        "logits_every2": as_returned[..., ::2, ::2],
        "pred_nshot": method.decide(_resized(low, _scored_size(case))),
    }


def _inside(case: Case, method: HSNet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    """Means of the first shot's correlations, and the map that enters the decoder."""
    pairs, shots = episodes.size[0] * episodes.size[2], episodes.size[2]
    query, support = method.pairs(episodes, method.normal(episodes), slice(0, pairs, shots))
    made = {}
    for name, q, s in zip((2, 3, 4), query, support, strict=True):
        cosines = correlation(q, s)
        made[f"corr_l{name}_mean_support"] = cosines.mean((4, 5))
        made[f"corr_l{name}_mean_query"] = cosines.mean((2, 3))
    channels = case.expected["encoded"].shape[1]  # large cases hold the first ones only
    return made | {"encoded": method.learner.encode(query, support, method.work_bytes)[:, :channels]}


def _votes(case: Case, size: Size) -> NDArray[np.uint8]:
    """B x K masks that disagree, in place of the network's."""
    seed = case.meta["seed"]
    masks = [[recipe.mask(size, seed, f"vote{k}_b{b}") for k in range(case.shots)] for b in range(case.batch)]
    return np.array(masks, np.uint8)


def _sparse_votes(case: Case, size: Size) -> NDArray[np.uint8]:
    """The same, cut so that no pixel has more than two votes."""
    stripe = np.arange(size[1]) // 8 % case.shots
    masks = _votes(case, size)
    for k in range(case.shots):
        masks[:, k] *= (stripe == k) | (stripe == (k + 1) % case.shots)
    return masks


def _scored_size(case: Case) -> Size:
    original = case.meta["original_size"]
    return case.size if original is None else (int(original[0]), int(original[1]))


def _resized(logits: Tensor, size: Size) -> Tensor:
    """B x K x 2 x h x w -> B x K x 2 x H x W."""
    resized: Tensor = aligned(logits.flatten(0, 1), size).unflatten(0, logits.shape[:2])
    return resized
