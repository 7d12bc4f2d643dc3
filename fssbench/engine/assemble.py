"""Episodes as a method's head sees them, from the features of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fssbench.engine.features import Inputs
from fssbench.engine.needs import Key, Needs, Picture
from fssbench.method import EpisodeBatch, Features, Method, SupportBatch


def assemble(
    method: Method, needs: Needs, features: Mapping[Key, Features], size: tuple[int, int, int], inputs: Inputs
) -> EpisodeBatch:
    """A batch of `size` episodes, ways and shots; labels and pixels are loaded if the method asks for them."""

    def together(keys: Sequence[Key]) -> Features:
        return _together([features[key] for key in keys], inputs.device)

    of_support = [Picture(label.image, method.support_input) for label in needs.labels]
    of_query = [key.picture for key in needs.queries]
    return EpisodeBatch.of(
        size,
        inputs.shape(of_query[0]),
        together(needs.queries),
        together(needs.supports),
        lambda: inputs.support_labels(needs.labels, method.support_input),
        auxiliary=together(needs.auxiliary) if needs.auxiliary else None,
        query_pixels=lambda: inputs.pixels(of_query),
        support_pixels=lambda: inputs.pixels(of_support),
    )


def _together(items: Sequence[Features], device: torch.device) -> Features:
    """One batch of features of one item each; a view, not a copy, where all are the same item."""

    def joined(values: Sequence[Tensor]) -> Tensor:
        if all(value is values[0] for value in values):
            return values[0].to(device).expand(len(values), *values[0].shape[1:])
        return torch.cat([value.to(device, non_blocking=True) for value in values])

    return {name: joined([item[name] for item in items]) for name in items[0]}


def one_by_one(
    method: Method,
    query: Tensor,
    support: Tensor,
    labels: Tensor,
    query_labels: Tensor | None = None,
    auxiliary: Tensor | None = None,
    classes: Tensor | None = None,
    base_labels: Tensor | None = None,
) -> EpisodeBatch:
    """Episodes whose images were encoded one at a time and put together afterwards, as from the engine's cache."""

    def encoded(image: Tensor) -> Features:
        return method.encode(image.unsqueeze(0))

    def pooled(image: Tensor, label: Tensor) -> Features:
        features = encoded(image) if method.encodes_support else {}
        return method.encode_support(SupportBatch(features, label.unsqueeze(0), lambda: image.unsqueeze(0)))

    b, n, k = labels.shape[:3]
    supports = [pooled(*pair) for pair in zip(support.flatten(0, 2), labels.flatten(0, 2), strict=True)]
    return EpisodeBatch.of(
        (b, n, k),
        (query.shape[-2], query.shape[-1]),
        _together([encoded(image) for image in query], query.device),
        _together(supports, query.device),
        labels.flatten(0, 2),
        auxiliary=None
        if auxiliary is None
        else _together([encoded(image) for image in auxiliary.flatten(0, 2)], query.device),
        query_pixels=query,
        support_pixels=support.flatten(0, 2),
        query_labels=query_labels,
        classes=classes,
        base_labels=base_labels,
    )
