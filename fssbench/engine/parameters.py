"""How many parameters a method has, and how many of them were trained."""

from __future__ import annotations

import torch

from fssbench.checkpoints import load_imagenet
from fssbench.errors import FssbenchError
from fssbench.method import Method
from fssbench.records import Parameters, WeightsEntry


def count_parameters(method: Method, weights: WeightsEntry) -> Parameters:
    """All parameters, and those that a training of fssbench changed: all but what stands so in the published encoder.

    None for `trained` where that cannot be known: the authors' checkpoints, and encoders whose published weights are
    not at hand.
    """
    total = sum(parameter.numel() for parameter in method.parameters())
    if weights.kind != "checkpoint":
        return Parameters(total=total, trained=0)
    if weights.regime is None or weights.regime.source != "fssbench":
        return Parameters(total=total, trained=None)
    try:
        with torch.random.fork_rng(devices=()):
            published = type(method)(method.config)
        load_imagenet(published)
    except FssbenchError:
        return Parameters(total=total, trained=None)
    before = dict(published.encoder.named_parameters())
    kept = sum(
        parameter.numel()
        for name, parameter in method.encoder.named_parameters()
        if name in before and torch.equal(parameter.detach().cpu(), before[name].detach())
    )
    return Parameters(total=total, trained=total - kept)
