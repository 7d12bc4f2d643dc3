"""The progress bar of a run, on stderr: episodes done, episodes a second, time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Rate(ProgressColumn):
    """Episodes a second, over the recent past."""

    def render(self, task: Task) -> Text:
        """The rate, or dots while there is none."""
        speed = task.finished_speed or task.speed
        return Text("... episodes/s" if speed is None else f"{speed:.1f} episodes/s", style="progress.data.speed")


class RunProgress:
    """Shows a run's progress; on a stream that is no terminal only the messages appear."""

    def __init__(self, console: Console, description: str) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), Rate(),
            TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
            speed_estimate_period=20,
        )  # fmt: skip
        self._task = self._bar.add_task(description, total=None)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def total(self, episodes: int, done: int) -> None:
        """How many episodes there are to do, and how many of them are done."""
        self._bar.reset(self._task, total=episodes, completed=done)

    def advance(self, episodes: int) -> None:
        """Episodes that were just done."""
        self._bar.advance(self._task, episodes)

    def say(self, message: str) -> None:
        """A line above the bar."""
        self._console.print(message, markup=False, soft_wrap=True)
