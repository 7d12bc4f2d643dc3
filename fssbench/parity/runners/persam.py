"""What our PerSAM gives for a case of its authors' code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fssbench.method import SupportBatch
from fssbench.parity.case import Arrays, Case
from methods.persam import Pass, PerSAM, PerSAMConfig
from methods.sam import SamSizes


def outputs(case: Case) -> Arrays:
    """Every tensor of the case, from the features to the last mask."""
    config = PerSAMConfig(mask_value=case.meta["mask_value"], sizes=SamSizes(**case.meta["sam"]))
    method = case.method(PerSAM, config)
    item, size = case.meta["inputs"][0], case.size
    height, width = case.meta["support_size"]
    query = _unit(case, item["query"], size)
    support = torch.stack([_unit(case, name, (height, width)) for name in item["support"]])
    labels = torch.stack([case.mask(name, (height, width)) for name in item["support_mask"]])
    with torch.no_grad():
        episodes = case.episodes(method, query[None], support[None, None], labels[None, None])
        features = method.encode(support)
        target = method.encode_support(SupportBatch(features, labels, lambda: support))["target"].mean(0)
        trace = method.trace(episodes.query["sam"], target, size)
        grid = method.mask_grid(labels[0])
        predicted = method.decide(method.segment(episodes))[0]
    made: dict[str, Any] = {
        "support_features_part": features["sam"][0, :8, ::4, ::4],
        "query_features_part": episodes.query["sam"][0, :8, ::4, ::4],
        "support_mask_grid": grid,
        "support_selected": method.selected(labels[0]),
        "target_embedding": episodes.support["target"][0, 0].mean(0),
        "similarity_low": trace.similarity,
        "point_positive": trace.points[0],
        "point_negative": trace.points[1],
        "attn_sim": trace.guidance,
        "box": trace.box,
        "best2": trace.passes[1].best[0],
        "best3": trace.passes[2].best[0],
        "final_mask": predicted,
    }
    for name in case.expected:  # "similarity_every4": the case says how many pixels it keeps
        if name.startswith("similarity_every"):
            step = int(name.removeprefix("similarity_every"))
            made[name] = trace.full_similarity[::step, ::step]
    for number, one in enumerate(trace.passes, 1):
        made |= _of_pass(one, number)
    return {name: value.numpy() for name, value in made.items() if value is not None}


def _of_pass(one: Pass, number: int) -> dict[str, Tensor]:
    return {
        f"logits{number}_every3": one.logits[:, ::3, ::3],
        f"scores{number}": one.qualities,
        f"masks{number}": one.masks,
    }


def _unit(case: Case, name: str, size: tuple[int, int]) -> Tensor:
    """3 x H x W of 0..1."""
    return torch.from_numpy(case.rgb(name, size).transpose(2, 0, 1).copy()).float() / 255
