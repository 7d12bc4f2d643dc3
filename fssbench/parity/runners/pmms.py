"""What our PMMs and RPMMs give for a case of their authors' code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fssbench.method import EpisodeBatch, build_episodes
from fssbench.parity.case import Arrays, Case
from methods.blocks import resize
from methods.dense_comparison import query_loss
from methods.pmms import PMMs, PMMsConfig, RPMMs, RPMMsConfig, Stage

TOLERANCES = {"aux_*": 5e-4}  # batch statistics of few positions amplify the noise of a convolution


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: features, each stage, losses, and a pass with BatchNorm on batch statistics."""
    method = _method(case)
    items = case.meta["input_names"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_masks"]) for item in items])[:, None]
    with torch.no_grad():
        made = _evaluated(case, method, case.episodes(method, query, support, labels, truth))
        if "aux_logits_bn_train" in case.expected:
            _use_batch_statistics(method)
            episodes = build_episodes(method, query, support, labels, truth)
            made["aux_logits_bn_train"] = method.segment(episodes)
            made["aux_loss_bn_train"] = method.loss(episodes)
    return {name: value.numpy() for name, value in made.items()}


def _method(case: Case) -> PMMs | RPMMs:
    """The method with the case's weights and its initial means, which no checkpoint of the authors holds."""
    components = tuple(case.meta["em"]["components"])
    options = {
        "backbone": case.meta["backbone"],
        "size": case.size,
        "kappa": case.meta["em"]["kappa"],
        "em_rounds": case.meta["em"]["rounds"],
    }
    method: PMMs | RPMMs
    if case.meta["method"] == "RPMMs":
        method = case.method(RPMMs, RPMMsConfig(components=components, **options))
    else:
        method = case.method(PMMs, PMMsConfig(components=components[0], **options))
    for k in components:
        method.get_buffer(f"means_{k}").copy_(torch.from_numpy(case.expected[f"mu_init_{k}"]))
    return method


def _evaluated(case: Case, method: PMMs | RPMMs, episodes: EpisodeBatch) -> dict[str, Tensor]:
    answer = method.segment(episodes)
    upsampled = resize(answer, case.size, align_corners=method.align_corners)
    name = "prob_avg" if isinstance(method, RPMMs) and case.shots > 1 else "logits"
    made = {
        "query_feat": episodes.query["feature"],
        "support_feat": episodes.support["feature"][:, 0, 0],
        name: answer,
        f"{name}_up": upsampled,
        "pred": method.decide(upsampled),
        "loss": method.loss(episodes),
        **{f"mu_init_{k}": method.get_buffer(f"means_{k}") for k in method.components},
    }
    if isinstance(method, PMMs):
        return made | _of_stage(method.stage(episodes), "")
    for number, stage in enumerate(method.chain(episodes)):
        made |= _of_stage(stage, f"_stage{number}")
        made[f"loss_stage{number}"] = query_loss(stage.logits, episodes, align_corners=False).mean()
    return made


def _of_stage(stage: Stage, suffix: str) -> dict[str, Tensor]:
    return {
        f"mu_fg{suffix}": stage.mixture.foreground.transpose(1, 2),
        f"mu_bg{suffix}": stage.mixture.background.transpose(1, 2),
        f"prob_map{suffix}": stage.mixture.probability,
        f"fused_feat{suffix}": stage.fused,
        f"logits{suffix}": stage.logits,
    }


def _use_batch_statistics(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
