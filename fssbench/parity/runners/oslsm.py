"""OSLSM's cases, which follow the layers of its prototxt (its Caffe network needs a GPU)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fssbench.method import EpisodeBatch
from fssbench.parity.case import Arrays, Case, Size
from methods.oslsm import CAFFE_MEAN, OSLSM, OSLSMConfig, bilinear_kernel, hash_matrix, regress

_kept: dict[str, OSLSM] = {}  # at most one network, by the weights that it holds


def outputs(case: Case) -> Arrays:
    """Every tensor of the case: the support's vector and classifier, query features, logits, score, loss, counts."""
    method, names = _method(case), case.meta["inputs"]
    support_size, query_size = _size(case, "support_size"), _size(case, "query_size")
    support = _images(case, names["first_img"], support_size)[None, None]  # 1 x 1 x K x 3 x H x W
    labels = case.masks(names["first_label"], support_size)[None, None]
    query = _images(case, [names["second_img"]], query_size)
    truth = case.masks([names["second_label"].split()[0]], query_size).long()
    with torch.no_grad():
        made = _evaluated(method, case.episodes(method, query, support, labels, truth))
    made["tp_tn_fp_fn"] = _counts(made["score"][0, 0] > 0.5, truth[0] > 0)
    made["hash_kappa"], made["hash_zeta"] = _hash(method)
    return {name: value.numpy() for name, value in made.items()}


def release() -> None:
    """Give back the network's memory, 1.1 GB, which is kept from case to case."""
    _kept.clear()


def _evaluated(method: OSLSM, episodes: EpisodeBatch) -> dict[str, Tensor]:
    codes, features = episodes.support["code"][:, 0], episodes.query["fc7"]
    weights, biases = method.classifiers(codes)
    logit = method.segment(episodes)[:, 1:]
    return {
        "fc8f": codes[0],
        "w1s": weights[0].unsqueeze(1),
        "b1s": biases[0].unsqueeze(1),
        "fc7s_f16": features,
        "pred": regress(features, weights, biases)[0].unsqueeze(1),
        "pre_score": method.scores(episodes)[0].unsqueeze(1),
        "pre_score2": logit,
        "score": logit.sigmoid(),
        "loss": method.loss(episodes),
    }


def _method(case: Case) -> OSLSM:
    """The network with the case's weights. To make either takes many seconds, so both serve the cases to come."""
    weights = f"{case.meta['seed']} {case.meta['gain']} " + " ".join(
        case.expected[name].tobytes().hex() for name in ("hash_kappa", "hash_zeta") if name in case.expected
    )
    if weights not in _kept:
        method = next(iter(_kept.values())) if _kept else OSLSM(OSLSMConfig.model_validate({})).eval()
        _kept.clear()
        method.load_official(_state(case))
        _kept[weights] = method
    return _kept[weights]


def _state(case: Case) -> dict[str, Tensor]:
    """The recipe's weights; where the case brings a hash, that in place of a dense layer, and bilinear upsampling."""
    state = case.state()
    if "hash_kappa" in case.expected:
        kappa, zeta = (case.expected[name].astype(np.int64) for name in ("hash_kappa", "hash_zeta"))
        hashed = hash_matrix(kappa, zeta, state["rw1s.weight"].shape[1])
        state |= {"rw1s.weight": hashed[:-1], "rb1s.weight": hashed[-1:], "uppred_offset.weight": bilinear_kernel()}
        state |= {name: torch.zeros_like(state[name]) for name in ("rw1s.bias", "rb1s.bias")}
    return state


def _size(case: Case, name: str) -> Size:
    height, width = case.meta[name]
    return int(height), int(width)


def _images(case: Case, names: Iterable[str], size: Size) -> Tensor:
    """B x 3 x H x W, BGR on a scale of 255 less the mean, which the authors' loader subtracts in float64."""
    made = [((case.rgb(name, size).astype(np.float32) / 255) - np.array(CAFFE_MEAN))[..., ::-1] * 255 for name in names]
    return torch.from_numpy(np.stack(made).transpose(0, 3, 1, 2).astype(np.float32, order="C"))


def _hash(method: OSLSM) -> tuple[Tensor, Tensor]:
    """Column and value of each row's largest entry; where the frozen layers are a hash, all there is."""
    rows = torch.cat([method.rw1s.get_buffer("weight"), method.rb1s.get_buffer("weight")])
    columns = rows.abs().argmax(1, keepdim=True)
    return columns[:, 0], rows.gather(1, columns)[:, 0].long()


def _counts(found: Tensor, truth: Tensor) -> Tensor:
    pairs = [(found, truth), (~found, ~truth), (found, ~truth), (~found, truth)]
    return torch.stack([(a & b).sum() for a, b in pairs])
