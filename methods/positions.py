"""Positions inside a mask, for comparing only those (PFENet's prior, HSNet's correlations)."""

from __future__ import annotations

from torch import Tensor


def positions_first(chosen: Tensor, spare: int = 0) -> Tensor:
    """Indices of the chosen positions of B x P (bool): B x S, S being the largest count in a row, plus `spare`.

    Rows with fewer are filled up with positions of their own that are not chosen; S is 1 at least and P at most.
    """
    count = min(max(int(chosen.sum(1).max()) + spare, 1), chosen.shape[1])
    return chosen.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
