"""Episodes as a method's head sees them, from the features of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fssbench.engine.features import Inputs
from fssbench.engine.needs import Key, Needs, Picture
from fssbench.method import EpisodeBatch, Features, Method


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
    """One batch of features of one item each; a view, not a copy, where several are the same item."""

    def joined(values: Sequence[Tensor]) -> Tensor:
        if len(values) > 1 and all(value is values[0] for value in values):
            return values[0].to(device).expand(len(values), *values[0].shape[1:])
        return torch.cat([value.to(device, non_blocking=True) for value in values])

    return {name: joined([item[name] for item in items]) for name in items[0]}
