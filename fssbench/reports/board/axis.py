"""The scale that the figures of a table share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A common scale for the figures of a table, from `low` to `high` (fractions), 200 units wide."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Where a fraction stands, in units of the figure, kept inside it."""
        return round(6 + 188 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the axis, three to six of them."""
        step = next(s for s in (0.05, 0.1, 0.2, 0.25) if (self.high - self.low) / s <= 5.001)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 4) for i in range(first, int(self.high / step + 1e-9) + 1)]


def axis_of(values: Iterable[float | None]) -> Axis:
    """The narrowest axis in steps of 5 % that holds all values, at least 10 % wide."""
    known = [value for value in values if value is not None] or [0.0, 1.0]
    low = math.floor(min(known) * 20 - 0.2) / 20
    high = math.ceil(max(known) * 20 + 0.2) / 20
    return Axis(max(0.0, low), min(1.0, max(high, low + 0.1)))
