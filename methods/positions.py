"""Positions inside a mask, for comparing only those (PFENet's prior, HSNet's correlations)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def positions_first(chosen: Tensor, spare: int = 0) -> Tensor:
    """Indices of the chosen positions of B x P (bool): B x S, S being the largest count in a row, plus `spare`.

    Rows with fewer are filled up with positions of their own that are not chosen; S is 1 at least and P at most.
    """
    count = min(max(int(chosen.sum(1).max()) + spare, 1), chosen.shape[1])
    return chosen.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def ragged_positions(chosen: Tensor, spare: int = 0) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """The place (b, k) of each row of B x K x P (bool), and the indices of its chosen positions, then `spare` others.

    Unlike in `positions_first` no row pays for the longest. Counts are fetched from the device once, for all rows.
    """
    order = chosen.byte().argsort(dim=2, descending=True, stable=True)
    for b, counts in enumerate(chosen.sum(2).tolist()):
        for k, count in enumerate(counts):
            yield (b, k), order[b, k, : count + spare]
