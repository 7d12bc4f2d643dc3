"""Where a run's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

Owner = tuple[int | None, int | None]  # whose time it is: a method and a shot, a method, or all together


@dataclass
class Clock:
    """Seconds by phase and by whose they are. On an accelerator a phase ends when the device is done, if `exact`."""

    device: torch.device
    exact: bool = False
    spent: dict[tuple[str, Owner], float] = field(default_factory=lambda: defaultdict(float))

    @property
    def seconds(self) -> dict[str, float]:
        """By phase, whoever's they are."""
        found: dict[str, float] = defaultdict(float)
        for (name, _), seconds in self.spent.items():
            found[name] += seconds
        return dict(found)

    @contextmanager
    def phase(self, name: str, method: int | None = None, shot: int | None = None) -> Iterator[None]:
        """Add the block's time to a phase: of a method at a shot, of a method, or of all that share the work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.exact and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.spent[name, (method, shot)] += time.perf_counter() - start


def shares(
    spent: Mapping[tuple[str, Owner], float], work: Mapping[tuple[int, int], int]
) -> dict[tuple[int, int], dict[str, float]]:
    """Each (method, shot)'s seconds by phase: its own, and of what it shared with others a part by its episodes.

    `work` is how many episodes each has done. What all of them get together is what was spent.

    >>> shares({("encode", (None, None)): 6.0, ("head", (0, 1)): 1.0}, {(0, 1): 10, (1, 1): 20})
    {(0, 1): {'encode': 2.0, 'head': 1.0}, (1, 1): {'encode': 4.0}}
    """
    found: dict[tuple[int, int], dict[str, float]] = {each: {} for each in work}
    for (phase, (method, shot)), seconds in spent.items():
        sharing = [each for each in work if method in (None, each[0]) and shot in (None, each[1])]
        whole = sum(work[each] for each in sharing)
        for each in sharing:
            part = seconds * work[each] / whole if whole else seconds / len(sharing)
            found[each][phase] = found[each].get(phase, 0.0) + part
    return found
