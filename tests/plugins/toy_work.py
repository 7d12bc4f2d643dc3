"""A task for tests of the schedule that runs out of memory until it has asked for enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fssbench.cluster.schedule import Post, Work


@dataclass(frozen=True)
class Eats:
    """Needs so many bytes."""

    needs: int

    def carry_out(self, post: Post, parcels: dict[str, Any]) -> None:
        import ray

        has = ray.get_runtime_context().get_assigned_resources().get("memory", 0)
        post(has)
        if has < self.needs:
            raise MemoryError("no more")


class Hungry(Work):
    """Remembers how much each attempt had."""

    name, kind = "hungry", "toy"

    def __init__(self, needs: int) -> None:
        super().__init__()
        self.needs, self.had, self.failure = needs, list[float](), ""

    def payload(self) -> Eats:
        return Eats(self.needs)

    def take(self, message: Any, host: str) -> None:
        self.had.append(message)

    def complete(self) -> bool:
        return self.had[-1] >= self.needs

    def fail(self, message: str) -> None:
        self.failure = message
