"""FSS-1000's cases: one support set, any number of queries, both kinds of batch normalisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fssbench.parity.case import Arrays, Case
from methods.fss1000 import FSS1000, FSS1000Config

TOLERANCES = {"*_bnbatch": 2e-3, "running_*": 2e-3}  # batch statistics amplify the noise of a convolution


def outputs(case: Case) -> Arrays:
    """Logits, probabilities and losses by batch and by running statistics; what a pass does to the latter."""
    running = _evaluated(case, FSS1000Config(size=case.size, batch_norm="running"))
    batch, trained = _by_batch(case)
    if case.batch == 1:  # the setting at test: one query by itself
        batch = _evaluated(case, FSS1000Config(size=case.size))
    tensors = {f"{name}_bnbatch": value for name, value in batch.items()}
    tensors |= {f"{name}_bnrunning": value for name, value in running.items()} | trained
    return {name: value.numpy() for name, value in tensors.items()}


def _image(case: Case, name: str) -> Tensor:
    scaled = (case.rgb(name) / 255).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def _supports(case: Case) -> tuple[Tensor, Tensor]:
    """K x 3 x H x W and K x H x W."""
    names = [f"support{k}" for k in range(case.shots)]
    return torch.stack([_image(case, name) for name in names]), case.masks(f"{name}_mask" for name in names)


def _queries(case: Case) -> tuple[Tensor, Tensor]:
    names = [f"{item}query0" for item in case.items] if case.batch > 1 else ["query0"]
    return torch.stack([_image(case, name) for name in names]), case.masks(f"{name}_mask" for name in names)


@torch.no_grad()
def _evaluated(case: Case, config: FSS1000Config) -> dict[str, Tensor]:
    """Through the method's own path, a query at a time."""
    method = case.method(FSS1000, config)
    (query, truth), (support, masks) = _queries(case), _supports(case)

    def repeated(value: Tensor) -> Tensor:
        return value.expand(case.batch, 1, *value.shape)

    episodes = case.episodes(method, query, repeated(support), repeated(masks), truth.long())
    logits = method.segment(episodes)[:, 1:]
    relation = method.comparison(episodes)
    return {
        "logits": logits,
        "prob": logits.sigmoid(),
        "loss": method.loss(episodes),
        "relation_in": relation,
    }


@torch.no_grad()
def _by_batch(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """In the authors' order, all queries together, and the running statistics afterwards."""
    method = case.method(FSS1000, FSS1000Config(size=case.size)).train()
    (query, truth), (support, masks) = _queries(case), _supports(case)
    deep = method.supports(support[None], masks.float()[None, :, None])
    features = method.encode(query)
    compared = torch.cat([deep.expand(case.batch, -1, -1, -1), features["deep"]], dim=1)
    logits = method.related(compared, features)
    tensors = {
        "logits": logits,
        "prob": logits.sigmoid(),
        "loss": (logits.sigmoid()[:, 0] - truth.float()).square().mean(),
        "relation_in": compared,
    }
    state = method.state_dict()
    statistics = {
        "running_mean_relation_layer1": state["relation.layer1.1.running_mean"],
        "running_var_relation_layer1": state["relation.layer1.1.running_var"],
        "running_mean_encoder_first": state["encoder.body.features.1.running_mean"],
    }
    return tensors, statistics
