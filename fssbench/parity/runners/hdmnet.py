"""What our HDMNet gives for a case of its authors' code."""

from __future__ import annotations

import torch
from torch import Tensor

from fssbench.method import VOID, EpisodeBatch, Term
from fssbench.parity.case import Arrays, Case
from fssbench.parity.runners.bam import STRIP, base_labels
from methods.base_learner import base_map, shot_scores
from methods.hdmnet import HDMNet, HDMNetConfig, distillations
from methods.hdmnet_transformer import STAGES
from methods.pfenet import aligned

LARGE = 300  # pixels a side above which cases hold every fourth row and column of large maps


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: similarity, levels, matching, both learners, the ensemble, losses, a second fusion."""
    method = case.method(HDMNet, config(case))
    items = case.meta["inputs"]
    query = case.images(item["query"] for item in items)
    truth = case.masks(item["query_mask"] for item in items).long()
    truth[:, :STRIP] = VOID
    support = torch.stack([case.images(item["support"]) for item in items])[:, None]  # B x 1 x K x 3 x H x W
    labels = torch.stack([case.masks(item["support_mask"]) for item in items])[:, None]
    labels[..., :STRIP] = VOID
    places = [int(item["class_index"]) for item in items]
    base, classes = base_labels(case, items, places), torch.tensor(places)
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels, truth, classes=classes, base_labels=base)
        made = _compared(case, method, episodes) | _answered(case, method, episodes)
        made |= _trained(case, method, episodes, classes) | _fused(case, method, episodes)
    return {name: value.numpy() for name, value in made.items()}


def config(case: Case) -> HDMNetConfig:
    """The case's backbone, size, base classes and shots."""
    meta = case.meta
    return HDMNetConfig(backbone=meta["backbone"], size=case.size, base_classes=meta["base_classes"], shots=case.shots)


def _compared(case: Case, method: HDMNet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    """What enters the matching."""
    step = 4 if max(case.size) > LARGE else 1
    similarity = method.similarity(episodes)
    merged = method.merged(episodes, similarity)
    made = {
        "query_base_feature": episodes.query["base"][:, ::16, ::step, ::step],
        "query_feat": episodes.query["query"][:, ::8, ::step, ::step],
        "prototype": episodes.support["vector"][:, 0],
        "similarity": similarity,
        "query_merged": merged[:, ::4, ::step, ::step],
        "gram_distance": method.distances(episodes),
        "est_val": method.trust(episodes),
    }
    for stage, level in enumerate(method.transformer.levels(merged)):
        fine = 1 if stage else step
        made[f"query_level{stage}"] = level[:, ::4, ::fine, ::fine]
        made[f"support_level{stage}"] = episodes.support[f"level{stage}"][:, 0, :, ::4, ::2, ::2]
    pixels = episodes.support_pixels[:, 0].flatten(0, 1)
    masked = pixels * episodes.support_foreground[:, 0].flatten(0, 1).unsqueeze(1)
    feature = method.down_supp(method.described(method.encoder(masked))[0])
    tiled = episodes.support["vector"][:, 0].flatten(0, 1)[..., None, None].expand_as(feature)
    merged = method.supp_merge(torch.cat([feature, tiled], dim=1)).unflatten(0, (case.batch, case.shots))
    made["support_merged"] = merged[:, :, ::4, ::2, ::2]
    if method.kshot_rw is not None:
        made["kshot_sorted"] = method.distances(episodes).sort(1).values
        made["kshot_weight"] = shot_scores(method.kshot_rw, method.distances(episodes))[0]
    return made


def _answered(case: Case, method: HDMNet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    """What comes out of it, and the ensemble."""
    step = 4 if max(case.size) > LARGE else 1
    answer, base, final = method.meta(episodes), method.base.classify(episodes.query["base"]), method.segment(episodes)
    every = 4 if step > 1 or case.meta["data_set"] == "coco" else 1
    logits, meta_logits, base_logits = (aligned(low, case.size) for low in (final, answer.logits, base))
    made = {
        "meta_low": answer.logits,
        "base_low": base[:, ::every],
        "base_map": base_map(base),
        "final_low": final,
        "logits": logits,
        "logits_every4": logits[..., ::4, ::4],
        "pred": method.decide(logits),
        "meta_pred": meta_logits.argmax(1),
        "base_pred": base_logits.argmax(1),
    }
    for stage in STAGES:
        fine = 1 if stage else step
        made[f"correlation{stage}"] = answer.correlations[stage]
        made[f"match{stage}"] = answer.matches[stage][:, ::4, ::fine, ::fine]
        made[f"parse{stage}"] = answer.parsed[stage][:, ::4, ::fine, ::fine]
    return made


def _trained(case: Case, method: HDMNet, episodes: EpisodeBatch, classes: Tensor) -> dict[str, Tensor]:
    """The training branch, in eval mode as the case says."""
    if episodes.query_labels is None:
        raise ValueError("expected episodes with query_labels")
    answer = method.meta(episodes)
    without = base_map(method.base.classify(episodes.query["base"]), classes)
    final = method.merge(answer.logits, method.trust(episodes), without)
    terms = method.losses(episodes)
    return {
        "base_map_train": without,
        "final_low_train": final,
        "train_pred": method.decide(aligned(final, case.size)),
        "main_loss": method.entropy(final, episodes).mean(),
        "meta_loss": method.entropy(answer.logits, episodes).mean(),
        "base_loss": _mean(terms["base"]),
        "distill_terms": torch.stack(distillations(episodes.query_labels, answer.correlations)),
        "distill_loss": _mean(terms["distillation"]),
        "loss": method.loss(episodes),
    }


def _mean(term: Tensor | Term) -> Tensor:
    return term.mean()


def _fused(case: Case, method: HDMNet, episodes: EpisodeBatch) -> dict[str, Tensor]:
    """A second pass with the merging weights that the case names."""
    for name, weights in case.meta["fusion"].items():
        layer = method.merging.get_submodule(name)
        layer.get_parameter("weight").copy_(torch.tensor(weights).view(1, 2, 1, 1))
    logits = aligned(method.segment(episodes), case.size)
    return {"fused_logits": logits[..., ::4, ::4], "fused_pred": method.decide(logits)}
