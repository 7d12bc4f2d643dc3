"""What a comparison says of one tensor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One tensor of one case. For integer tensors deviation and tolerance are shares of differing elements."""

    case: str
    tensor: str
    deviation: float | None  # None: not given, of another shape, or not finite
    tolerance: float
    passed: bool
