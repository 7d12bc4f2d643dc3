"""Score over year of publication, as a figure that a template draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fssbench.reports.board.axis import Axis, axis_of
from fssbench.reports.entries.rankings import Board
from fssbench.reports.papers.paper import Paper
from fssbench.reports.papers.registry import PaperScores

TOP, BOTTOM, LEFT, LINE = 16.0, 316.0, 44.0, 13.0  # units of the figure


@dataclass(frozen=True)
class Point:
    """A number at its year; `label_y` is where its name stands, apart from its neighbours'."""

    x: float
    y: float
    label: str
    label_y: float
    year: int
    value: float


@dataclass(frozen=True)
class Years:
    """Measured results and published ones, in units of a figure of `width` x 340."""

    axis: Axis
    years: tuple[int, ...]
    measured: tuple[Point, ...]
    published: tuple[Point, ...]

    @property
    def step(self) -> float:
        """Units a year: room for a name, and the page's width for few."""
        return max(104.0, 1170.0 // len(self.years))

    @property
    def width(self) -> float:
        return LEFT + self.step * len(self.years)

    def y(self, value: float) -> float:
        """Height of a fraction."""
        share = (value - self.axis.low) / (self.axis.high - self.axis.low)
        return round(BOTTOM - (BOTTOM - TOP) * min(max(share, 0.0), 1.0), 1)

    def x(self, year: int) -> float:
        """Place of a year."""
        return LEFT + self.step * (year - self.years[0]) + 16


def years_of(board: Board, published: Sequence[PaperScores], papers: Mapping[str, Paper]) -> Years | None:
    """The figure of a board; None where no two measured methods are of different years.

    A method that was trained is not shown untrained as well.
    """
    trained = {entry.title for entry in board.entries if entry.trained != "untrained"}
    measured = [
        (paper.year, value, f"{entry.title}{' untrained' if entry.trained == 'untrained' else ''}")
        for entry in board.entries
        if not (entry.trained == "untrained" and entry.title in trained)
        and entry.rank
        and (paper := papers.get(entry.run.method.name))
        and (value := entry.scores.miou.value)
    ]
    if len({year for year, _, _ in measured}) < 2:
        return None
    printed = [(one.year, one.miou.middle / 100, f"{one.method} {one.backbone}") for one in published if one.miou]
    both = [*measured, *printed]
    span = tuple(range(min(year for year, _, _ in both), max(year for year, _, _ in both) + 1))
    empty = Years(axis_of([value for _, value, _ in both]), span, (), ())
    return Years(empty.axis, span, _placed(empty, measured), _placed(empty, printed))


def _placed(figure: Years, found: Sequence[tuple[int, float, str]]) -> tuple[Point, ...]:
    """Points by year, the best first; a name moves down where the one above leaves it no room."""
    points: list[Point] = []
    for year, value, label in sorted(found, key=lambda one: (one[0], -one[1], one[2])):
        y = figure.y(value)
        above = points[-1].label_y + LINE if points and points[-1].year == year else TOP
        points.append(Point(figure.x(year), y, label, max(y, above), year, value))
    return tuple(points)
