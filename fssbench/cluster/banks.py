"""A sweep's bank that lacks, made by a node that has the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fssbench.cluster.episodes import inside
from fssbench.cluster.parcels import Parcel, in_parts, local_folder, write_part
from fssbench.cluster.schedule import Post, Work
from fssbench.training.sweep import Sweep, Task, make_bank


@dataclass(frozen=True)
class MadeBank:
    """Goes to a node: a bank that lacks."""

    sweep: Sweep
    task: Task
    root: Path | None
    folder: Path

    def carry_out(self, post: Post, parcels: dict[str, Parcel]) -> None:
        """Make it there and post the file."""
        path = local_folder() / "banks" / self.task.data.bank.name
        with inside(self.folder):
            make_bank(self.sweep, self.task.data.model_copy(update={"bank": path}), self.root, force=True)
        with path.open("rb") as file:
            for part in in_parts(file):
                post(part)
        path.unlink()


class MakingBank(Work):
    """The driver's side of a bank."""

    kind = "bank"

    def __init__(self, sweep: Sweep, task: Task, root: Path | None) -> None:
        super().__init__()
        self._sweep, self._task, self._root, self.name = sweep, task, root, str(task)

    def payload(self) -> MadeBank:
        """All of it."""
        return MadeBank(self._sweep, self._task, self._root, Path.cwd())

    def take(self, message: Any, host: str) -> None:
        """A part of the file."""
        path = self._task.data.bank
        write_part(path.parent, path.name, *message)

    def complete(self) -> bool:
        """Whether the file is whole."""
        return self._task.data.bank.exists()

    def fail(self, message: str) -> None:
        """Nothing to undo."""
