"""SG-One's cases: 1 shot, 5 shots by averaged vectors, 5 shots by union."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fssbench.parity.case import Arrays, Case
from methods.blocks import resize
from methods.sgone import SGOne, SGOneConfig

_FUSION = {"1shot": "avg", "5shot_avg": "avg", "5shot_max": "max"}


def outputs(case: Case) -> Arrays:
    """Guidance vector, similarity, logits, probabilities, masks; the loss of a single shot."""
    fusion = _FUSION[str(case.meta["variant"])]
    method = case.method(SGOne, SGOneConfig.model_validate({"fusion": fusion}))
    height, width = case.meta["support_size"]
    names = [f"{item}support{k}" for item in case.items for k in range(case.shots)]
    support = case.images(names, (height, width)).unflatten(0, (case.batch, 1, case.shots))
    labels = case.masks((f"{name}_mask" for name in names), (height, width)).unflatten(0, (case.batch, 1, case.shots))
    query = case.images(f"{item}query0" for item in case.items)
    truth = case.masks(f"{item}query0_mask" for item in case.items).long()
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels, truth)
        similarity, logits = method.similarity(episodes), method.segment(episodes)
        full = resize(logits.flatten(0, -4), case.size).unflatten(0, logits.shape[:-3])
        tensors = {
            "query_feat_cls": episodes.query["guidance"],
            "query_feat_seg": episodes.query["segmentation"],
            "vec_pos": method.vectors(episodes).mean(1)[..., None, None],
            "pred": method.decide(full).byte(),
            "prob": full.softmax(-3),
        }
        shots_first = {"similarity": similarity, "logits": logits, "logits_up": full}
        tensors |= {name: value.transpose(0, 1) if fusion == "max" else value for name, value in shots_first.items()}
        if fusion == "avg":
            tensors["similarity"] = similarity[:, 0]
            each = F.cross_entropy(full, truth, reduction="none").mean((1, 2))
            tensors["loss"] = each if case.batch > 1 else method.loss(episodes)
    return {name: value.numpy() for name, value in tensors.items()}
