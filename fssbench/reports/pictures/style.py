"""How plots look, and how they are written: the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fssbench.files import atomic_path

# Okabe and Ito's colours, which stay apart for colour-blind readers, then markers for those who print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, SOFT, FAINT, BAR = "#22262b", "#6a727c", "#dcdfe3", "#7fb3cc"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a method's name is a dollar sign
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "svg.hashsalt": "fssbench",  # ids in an SVG follow from its content alone
    "svg.fonttype": "path",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw within this block; a user's own matplotlib settings have no say."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(
    width: float, height: float, rows: int = 1, share_x: bool = True, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure (inches) with rows x columns panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=share_x, sharey=True, squeeze=False)
    return figure, list(axes.flat)


def colour(position: int) -> str:
    """A colour by place in the ranking."""
    return COLOURS[position % len(COLOURS)]


def marker(position: int) -> str:
    """A marker by place in the ranking; it changes where the colours start again."""
    return MARKERS[(position + position // len(COLOURS)) % len(MARKERS)]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (200 dots an inch) and `name`.svg without dates or version numbers in them."""
    metadata: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    paths = []
    for kind, fields in metadata.items():
        path = folder / f"{name}.{kind}"
        with style(), atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=fields, facecolor="white")
        paths.append(path)
    return paths


def mark_folds(axis: Axes, folds: Sequence[int]) -> None:
    """Lines and names between the folds of classes that stand side by side."""
    starts = [i for i, fold in enumerate(folds) if i == 0 or fold != folds[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(folds)], strict=True):
        if start:
            axis.axvline(start - 0.5, color=SOFT, linewidth=0.8)
        axis.text(
            (start + stop - 1) / 2,
            1.0,
            f"fold {folds[start]}",
            transform=axis.get_xaxis_transform(),
            ha="center",
            va="top",
            color=SOFT,
            fontsize=8,
        )
