"""What a training writes down at every step: `log.csv`, and events for TensorBoard where that is installed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.training.state import Position
from fssbench.training.updates import Report

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_HEADER = ["stage", "step", "loss", "rate", "terms"]


class Log:
    """One line a step, and `events/<stage>`. What lies beyond the step that a run goes on from is cut off."""

    def __init__(self, folder: Path, stage: str, position: Position) -> None:
        self._path, self._stage = folder / "log.csv", position.stage
        if self._path.exists():
            with self._path.open(newline="") as file:
                rows = list(csv.reader(file))
            kept = [r for r in rows[1:] if len(r) > 4 and (int(r[0]), int(r[1])) < (position.stage, position.step)]
        else:
            kept = []
        with self._path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([_HEADER, *kept])
        self._events = _events(folder / "events" / stage, position.step)

    def write(self, step: int, report: Report) -> None:
        """Step `step` of the stage, from 0."""
        terms = " ".join(f"{name}={value!r}" for name, value in report.terms.items())
        with self._path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([self._stage, step, report.loss, report.rate, terms])
        numbers = {f"loss/{name}": value for name, value in report.terms.items()}
        self.tell(step, {"loss": report.loss, "rate": report.rate, "gradient": report.gradient, **numbers})

    def tell(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers for TensorBoard alone."""
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, step + 1)

    def close(self) -> None:
        """Events are on disk."""
        if self._events is not None:
            self._events.close()


def _events(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)
