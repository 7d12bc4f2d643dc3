"""Positions inside a mask, for comparing only those.

How many there are is known at once on a processor, where to compare no others saves half of a head's work. A GPU would
have to be waited for: there every position is compared, and those outside count for nothing by their own value.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

KNOWN_ON = frozenset({"cpu"})  # devices whose values cost no waiting


def positions_first(chosen: Tensor) -> Tensor:
    """Indices of the chosen positions of B x P (bool), then others: B x S.

    On a processor S is the largest count in a row, 1 at least; on other devices P.
    """
    order = chosen.byte().argsort(dim=1, descending=True, stable=True)
    return order[:, : max(int(chosen.sum(1).max()), 1)] if chosen.device.type in KNOWN_ON else order


def ragged_positions(chosen: Tensor, spare: int = 0) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """The place (b, k) of each row of B x K x P (bool), and the indices of its chosen positions, then `spare` others.

    Unlike in `positions_first` no row pays for the longest. On devices other than a processor every row is whole.
    """
    order = chosen.byte().argsort(dim=2, descending=True, stable=True)
    rows, shots, every = chosen.shape
    counts = chosen.sum(2).tolist() if chosen.device.type in KNOWN_ON else [[every] * shots] * rows
    for b, of_row in enumerate(counts):
        for k, count in enumerate(of_row):
            yield (b, k), order[b, k, : count + spare]


def window(chosen: Tensor) -> tuple[slice, slice]:
    """The fewest neighbouring rows and columns with every chosen position of B x h x w (bool), one of each at least.

    On devices other than a processor it is the whole map.
    """
    if chosen.device.type not in KNOWN_ON:
        return slice(0, chosen.shape[1]), slice(0, chosen.shape[2])
    rows, columns = (chosen.any(0).any(other).nonzero().flatten().tolist() or [0] for other in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
