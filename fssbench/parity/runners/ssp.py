"""What our SSP gives for a case of its authors' code."""

from __future__ import annotations

import torch
from torch import Tensor

from fssbench.method import VOID, EpisodeBatch, build_episodes
from fssbench.parity.case import Arrays, Case
from methods.ssp import SSP, SSPConfig, aligned, matched, pooled

STRIP = 4  # rows of a query label and columns of a support label that are void


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: prototypes and scores of each step, and the losses where it has them."""
    config = SSPConfig(backbone=case.meta["backbone"], size=case.size, refine=case.meta["refine"])
    method = case.method(SSP, config)
    items, (height, width) = case.meta["inputs"], case.meta["support_size"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    truth[:, :STRIP] = VOID
    support = torch.stack([case.images(item["support"], (height, width)) for item in items])[:, None]
    labels = torch.stack([case.masks(item["support_mask"], (height, width)) for item in items])[:, None]
    labels[..., :STRIP] = VOID
    with torch.no_grad():
        made = _evaluated(case, method, case.episodes(method, query, support, labels))
        if "loss" in case.expected:
            made |= _trained(case, method.train(), build_episodes(method, query, support, labels, truth))
    return {name: value.numpy() for name, value in made.items()}


def _evaluated(case: Case, method: SSP, episodes: EpisodeBatch) -> dict[str, Tensor]:
    matching = method.matching(episodes)
    background, foreground = episodes.support["prototypes"][:, 0].mean(1).unbind(1)
    logits = aligned(method.segment(episodes), case.size)
    channels = case.meta["channels_stored"]
    made = {
        "query_feat": episodes.query["feature"][:, :channels],
        "fp": foreground,
        "bp": background,
        "logits": logits,
        "logits_1_every4": aligned(matching.scores[1], case.size)[..., ::4, ::4],
        "pred": method.decide(logits),
    }
    made |= {f"similarity_{step}": scores for step, scores in enumerate(matching.scores)}
    for number, step in enumerate(matching.steps, 1):
        made[f"ssfp_{number}"], made[f"ssbp_{number}"] = step.foreground, step.background
        made[f"asbp_{number}"] = step.local_background[:, :channels]
        made[f"selected_{number}"] = step.selected.flip(1)  # theirs counts the object first
    return made


def _trained(case: Case, method: SSP, episodes: EpisodeBatch) -> dict[str, Tensor]:
    feature, labels = episodes.query["feature"], episodes.query_labels
    if labels is None:
        raise ValueError("expected episodes with query_labels")
    own = matched(feature, *pooled(feature, labels).unbind(1))
    supports = episodes.support["scores"][:, 0].transpose(0, 1).flatten(0, 1)  # row = shot * B + item
    return {
        "self_logits_every4": aligned(own, case.size)[..., ::4, ::4],
        "supp_logits_every4": aligned(supports, case.size)[..., ::4, ::4],
        "loss": method.loss(episodes),
    } | {f"loss_{name}": term.mean() for name, term in method.losses(episodes).items()}
