"""The progress of a run, on stderr: episodes done, episodes a second, time left. A bar, or lines off a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

BETWEEN = 60.0  # seconds from one line to the next


class Rate(ProgressColumn):
    """Episodes a second, over the recent past."""

    def render(self, task: Task) -> Text:
        """The rate, or dots while there is none."""
        speed = task.finished_speed or task.speed
        return Text("... episodes/s" if speed is None else f"{speed:.1f} episodes/s", style="progress.data.speed")


class RunProgress:
    """Shows a run's progress; on a stream that is no terminal by a line a minute.

    `heading` is said once the run is known to be possible, so that a mistake is one message. `clock` gives seconds.
    """

    def __init__(
        self, console: Console, description: str, heading: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._heading, self._clock = console, heading, clock
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), Rate(),
            TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
            speed_estimate_period=20,
        )  # fmt: skip
        self._task = self._bar.add_task(description, total=None)
        self._total = self._before = self._done = 0
        self._started = self._said = 0.0

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def total(self, episodes: int, done: int) -> None:
        """How many episodes there are to do, and how many of them are done."""
        self._head()
        self._total, self._before, self._done = episodes, done, done
        self._started = self._said = self._clock()
        self._bar.reset(self._task, total=episodes, completed=done)

    def advance(self, episodes: int) -> None:
        """Episodes that were just done."""
        self._done += episodes
        self._bar.advance(self._task, episodes)
        now = self._clock()
        if self._bar.disable and now - self._said >= BETWEEN and self._done < self._total:
            self._said = now
            speed = (self._done - self._before) / (now - self._started)
            left = timedelta(seconds=round((self._total - self._done) / speed))
            self.say(f"{self._done} of {self._total} episodes, {speed:.1f} episodes/s, {left} left")

    def say(self, message: str) -> None:
        """A line above the bar."""
        self._head()
        self._console.print(message, markup=False, soft_wrap=True)

    def _head(self) -> None:
        if self._heading:
            self._console.print(self._heading, markup=False, soft_wrap=True)
            self._heading = ""
