"""What our PFENet gives for a case of its authors' code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fssbench.method import VOID, EpisodeBatch, SupportBatch
from fssbench.parity.case import Arrays, Case
from methods.pfenet import PFENet, PFENetConfig, aligned

STRIP = 4  # rows of a query label and columns of a support label that are void


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: evaluation, losses, and losses with BatchNorm on batch statistics."""
    config = PFENetConfig(backbone=case.meta["backbone"], size=case.size, ppm_scales=tuple(case.meta["ppm_scales"]))
    method = case.method(PFENet, config)
    items = case.meta["inputs"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    truth[:, :STRIP] = VOID
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_mask"]) for item in items])[:, None]
    labels[..., :STRIP] = VOID
    with torch.no_grad():
        made = _evaluated(case, method, case.episodes(method, query, support, labels, truth))
        made |= _with_batch_statistics(method, query, support, labels, truth)
    return {name: value.numpy() for name, value in made.items()}


def _evaluated(case: Case, method: PFENet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    low = method.segment(episodes)
    logits = aligned(low, case.size)
    _, levels = method.enriched(episodes)
    inner = [classify(level) for classify, level in zip(method.enrichment.inner_cls, levels, strict=True)]
    main, aux = (term.mean() for term in method.losses(episodes).values())
    channels = case.expected["query_feat"].shape[1]  # large cases hold the first ones only
    return {
        "logits": logits,
        "logits_every4": logits[:, :, ::4, ::4],
        "pred": method.decide(logits),
        "logits_low": low,
        "prototype": episodes.support["vector"][:, 0].mean(1),
        "prior_bin0": aligned(method.prior(episodes), (levels[0].shape[2], levels[0].shape[3])),
        "query_feat": episodes.query["query"][:, :channels],
        "main_loss": main,
        "aux_loss": aux,
        "loss": main + method.config.aux_weight * aux,
    } | {f"inner_logits{level}": value for level, value in enumerate(inner)}


def _with_batch_statistics(
    method: PFENet, query: Tensor, support: Tensor, labels: Tensor, truth: Tensor
) -> dict[str, Tensor]:
    """One training pass in the order of the authors' code: the query, then shot by shot."""
    method.train()
    for module in method.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    features = method.encode(query)
    features["layer4"] = method.encoder.stage("c5", features["layer3"])
    shots = [
        method.encode_support(SupportBatch(method.encode(image), label, image.clone))
        for image, label in zip(support[:, 0].unbind(1), labels[:, 0].unbind(1), strict=True)
    ]
    episodes = EpisodeBatch(
        query=features,
        support={name: torch.stack([shot[name] for shot in shots], dim=1)[:, None] for name in shots[0]},
        size=(labels.shape[0], 1, labels.shape[2]),
        query_shape=(query.shape[2], query.shape[3]),
        load_support_labels=lambda: labels,
        query_labels=truth,
    )
    main, aux = (term.mean() for term in method.losses(episodes).values())
    last = [module for module in method.encoder.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    mean = last.get_buffer("running_mean")
    return {"main_loss_bntrain": main, "aux_loss_bntrain": aux, "layer4_last_bn_running_mean_after": mean}
