"""What our DCAMA gives for a case of its authors' code."""

from __future__ import annotations

import torch
from torch import Tensor

from fssbench.method import EpisodeBatch, Features
from fssbench.parity.case import Arrays, Case
from methods.dcama import DCAMA, DCAMAConfig
from methods.hsnet import aligned

BACKBONES = {"swin": "timm:swin_base_patch4_window12_384"}  # by the cases' names, where they differ from ours


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: statistics of all maps, aggregated masks, what is mixed, logits, masks, loss."""
    method = case.method(DCAMA, config(case))
    items = case.meta["inputs"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_mask"]) for item in items])[:, None]
    with torch.no_grad():
        made = _encoded(method, "query", query) | _encoded(method, "support", support.flatten(0, 2), case.shots)
        made |= _segmented(case, method, case.episodes(method, query, support, labels, truth))
    return {name: value.numpy() for name, value in made.items()}


def config(case: Case) -> DCAMAConfig:
    """The case's backbone and size."""
    return DCAMAConfig(backbone=BACKBONES.get(case.meta["backbone"], case.meta["backbone"]), size=case.size)


def _encoded(method: DCAMA, what: str, images: Tensor, shots: int = 0) -> dict[str, Tensor]:
    """Mean and root mean square of every block's map: M x blocks, or B x K x blocks for supports."""
    each: list[Features] = [method.encoder(image.unsqueeze(0)) for image in images]
    mean = torch.stack([torch.stack([x.mean() for x in maps.values()]) for maps in each])
    square = torch.stack([torch.stack([x.square().mean().sqrt() for x in maps.values()]) for maps in each])
    made = {f"{what}_feat_mean": mean, f"{what}_feat_rms": square}
    return {name: value.unflatten(0, (-1, shots)) for name, value in made.items()} if shots else made


def _segmented(case: Case, method: DCAMA, episodes: EpisodeBatch) -> dict[str, Tensor]:
    masks = method.aggregated(episodes)
    at16, at8, at4, _ = method.mixed(episodes, masks)
    logits = method.segment(episodes)
    original = case.meta["original_size"]
    scored = logits if original is None else aligned(logits, (int(original[0]), int(original[1])))
    return {
        **{f"coarse_{stride}": stack for stride, stack in zip((8, 16, 32), masks, strict=True)},
        "mixed_16": at16[:, ::4],
        "mixed_8": at8[:, ::8, ::2, ::2],
        "mixed_4": at4[:, ::8, ::2, ::2],
        "logits": logits,
        "logits_every4": logits[..., ::4, ::4],
        "pred": method.decide(logits),
        "pred_nshot": method.decide(scored),
        "loss": method.loss(episodes),
    }
