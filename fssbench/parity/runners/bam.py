"""What our BAM gives for a case of its authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fssbench.method import VOID, EpisodeBatch
from fssbench.parity.case import Arrays, Case
from methods.bam import BAM, BAMConfig
from methods.base_learner import base_map, gram_distance
from methods.pfenet import aligned

STRIP = 4  # rows of a query label and columns of a support label that are void


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: both learners, the ensemble, losses, and step 1 on batch statistics."""
    method = case.method(BAM, config(case))
    items = case.meta["inputs"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    truth[:, :STRIP] = VOID
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_mask"]) for item in items])[:, None]
    labels[..., :STRIP] = VOID
    base = base_labels(case, items, [int(item["class"]) for item in items])
    classes = torch.tensor([int(item["class"]) for item in items])
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels, truth, classes=classes, base_labels=base)
        made = _evaluated(case, method, episodes) | _trained(case, method, episodes, classes)
        if "psp_loss_bntrain" in case.expected:
            made |= _first_step(method, query, base)
    return {name: value.numpy() for name, value in made.items()}


def config(case: Case) -> BAMConfig:
    """The case's backbone, size, base classes and shots."""
    meta = case.meta
    return BAMConfig(
        backbone=meta["backbone"], size=case.size, base_classes=meta["base_classes"], shots=max(1, case.shots)
    )


def base_labels(case: Case, items: list[dict[str, Any]], classes: Sequence[int] | None = None) -> Tensor:
    """B x H x W: the masks of other base classes in order, then (in episodes) their own, then the void strip."""
    labels = torch.zeros(len(items), *case.size, dtype=torch.int64)
    for label, item in zip(labels, items, strict=True):
        for name, number in item["base"]:
            label[case.mask(name) == 1] = number
    if classes is not None:
        for label, item, own in zip(labels, items, classes, strict=True):
            label[case.mask(item["query_mask"]) == 1] = own + 1
    labels[:, :STRIP] = VOID
    return labels


def _evaluated(case: Case, method: BAM, episodes: EpisodeBatch) -> dict[str, Tensor]:
    channels = case.meta["channels_stored"]
    layer4, base = method.deep(episodes)
    weights, psi = method.trust(episodes)
    merged = method.merged(episodes, layer4, weights)
    branches = method.compared(merged)[0]
    meta, final = method.meta(episodes, layer4, weights), method.segment(episodes)
    logits, meta_logits, base_logits = (aligned(low, case.size) for low in (final, meta, base))
    return {
        "query_feat": episodes.query["query"][:, :channels],
        "psi_shots": gram_distance(episodes.query["gram"], episodes.support["gram"][:, 0]),
        "weights": weights,
        "psi": psi,
        "prior": method.prior(episodes, layer4, weights),
        "prototype": method.vector(episodes, weights),
        "merge_feat": merged[:, :channels],
        "aspp": torch.cat([branch[:, :8].expand(-1, -1, *merged.shape[2:]) for branch in branches], dim=1),
        "meta_low": meta,
        "meta_logits_every4": meta_logits[..., ::4, ::4],
        "meta_pred": meta_logits.argmax(1),
        "base_low": base,
        "base_logits_every8": base_logits[..., ::8, ::8],
        "base_pred": base_logits.argmax(1),
        "base_map": base_map(base),
        "final_low": final,
        "logits": logits,
        "logits_every4": logits[..., ::4, ::4],
        "pred": method.decide(logits),
    }


def _trained(case: Case, method: BAM, episodes: EpisodeBatch, classes: Tensor) -> dict[str, Tensor]:
    """The training branch, in eval mode as the case says."""
    layer4, base = method.deep(episodes)
    weights, psi = method.trust(episodes)
    without = base_map(base, classes)
    final = method.merge(method.meta(episodes, layer4, weights), psi, without)
    terms = {name: term.mean() for name, term in method.losses(episodes).items()}
    return {
        "base_map_train": without,
        "final_low_train": final,
        "pred_train": method.decide(aligned(final, case.size)),
        "main_loss": terms["main"],
        "aux_loss1": terms["aux1"],
        "aux_loss2": terms["aux2"],
        "loss": method.loss(episodes),
    }


def _first_step(method: BAM, query: Tensor, base: Tensor) -> dict[str, Tensor]:
    """Step 1 on batch statistics; Dropout off."""
    method.train_base()
    for module in method.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    low = method.base_logits(method.encoder(query)["c5"])
    mean = method.base.get_buffer("cls.1.running_mean").clone()
    return {
        "psp_low_bntrain": low,
        "psp_bn_mean_after": mean,
        "psp_loss_bntrain": method.base_loss(query, base).mean(),
    }
