"""What our CANet gives for a case of its authors' code."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from fssbench.method import EpisodeBatch, SupportBatch
from fssbench.parity.case import Arrays, Case
from methods.blocks import resize
from methods.canet import CANet, CANetConfig

TOLERANCES = {"aux_*": 5e-4}  # batch statistics of few positions amplify the noise of a convolution


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: features, each refinement, losses, and a pass with BatchNorm on batch statistics."""
    method = case.method(CANet, _config(case))
    items = case.meta["input_names"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_masks"]) for item in items])[:, None]
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels, truth)
        made = _evaluated(case, method, episodes)
        method.config = _config(case, history_probability=0.0)
        made["loss"] = method.loss(episodes)
        method.config = _config(case, history_probability=1.0)
        made["loss_refine1"] = method.loss(episodes)
        made |= _with_batch_statistics(method, query, support, labels)
    return {name: value.numpy() for name, value in made.items()}


def _config(case: Case, history_probability: float = 0.3) -> CANetConfig:
    """Without dropout, and with as many refinements as the case's furthest tensor."""
    last = max(int(found[1]) for name in case.expected if (found := re.fullmatch(r"logits_refine(\d+)", name)))
    return CANetConfig(
        backbone=case.meta["backbone"],
        size=case.size,
        refinements=last,
        dropout=0.0,
        history_probability=history_probability,
    )


def _evaluated(case: Case, method: CANet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    comparison = method.comparison(episodes)
    passes = [method.refined(comparison, None)]
    for _ in range(1, method.config.refinements):
        passes.append(method.refined(comparison, passes[-1].softmax(1)))
    passes.append(method.segment(episodes))  # the last one by the way that the engine goes
    history = case.masks((f"{prefix}history0" for prefix in case.items), (41, 41)).float()
    made = {
        "query_feat": episodes.query["feature"],
        "support_feat": _support_features(case, method),
        "prototype": episodes.support["prototype"][:, 0, 0],
        "comparison_feat": comparison,
        "logits_given_history": method.refined(comparison, torch.stack([1 - history, history], dim=1)),
    }
    for number, logits in enumerate(passes):
        upsampled = resize(logits, case.size, align_corners=method.align_corners)
        made[f"logits_refine{number}"] = logits
        made[f"logits_up_refine{number}"] = upsampled
        made[f"pred_refine{number}"] = method.decide(upsampled)
    return made


def _support_features(case: Case, method: CANet) -> Tensor:
    return method.encode(case.images(item["support"][0] for item in case.meta["input_names"]))["feature"]


def _with_batch_statistics(method: CANet, query: Tensor, support: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One pass of the first refinement in training mode, in the order of the authors' code: query, then support."""
    method.train()
    for module in method.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    features, images = method.encode(query), support.flatten(0, 2)
    encoded = method.encode_support(SupportBatch(method.encode(images), labels.flatten(0, 2), images.clone))
    episodes = EpisodeBatch(
        query=features,
        support={name: value.reshape(*labels.shape[:3], *value.shape[1:]) for name, value in encoded.items()},
        size=(labels.shape[0], labels.shape[1], labels.shape[2]),
        query_shape=(query.shape[2], query.shape[3]),
        load_support_labels=labels.clone,
    )
    return {
        "aux_logits_bn_train": method.refined(method.comparison(episodes), None),
        "aux_bn1_running_mean_after": method.encoder.get_buffer("body.bn1.running_mean"),
    }
