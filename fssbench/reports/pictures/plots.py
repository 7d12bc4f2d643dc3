"""Plots of a ranking, and of a bank over its shots: matplotlib figures, PNG and SVG, byte for byte the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from fssbench.progress import Progress, quiet
from fssbench.reports.entries.lines import method_label
from fssbench.reports.entries.rankings import Bank, Board, Ranked
from fssbench.reports.entries.results import episodes_of
from fssbench.reports.entries.scores import Score, episode_iou
from fssbench.reports.pictures.style import BAR, FAINT, INK, colour, mark_folds, marker, new_figure, save, style
from fssbench.scoring.metrics import BACKGROUND_CLASS
from fssbench.scoring.pixels import iou

SIZE_BINS = 8  # of equal numbers of episodes
MOST_PANELS = 16  # results a figure shows, best first
DODGE = 1.006  # by which a line stands beside the next one on the axis of shots


@dataclass(frozen=True)
class Curve:
    """IoU by object size: the geometric middle of each bin (share of the image) and the pooled IoU within it."""

    size: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


def draw_all(banks: Sequence[Bank], folder: Path, track: Progress = quiet) -> list[Path]:
    """Every plot of every bank; the files' names say which. A plot for which there is no data is left out."""
    figures: list[tuple[str, Callable[[], Figure | None]]] = []
    for bank in banks:
        for board in bank.boards:
            figures += [(f"{board.slug}-{name}", partial(draw, bank, board)) for name, draw in BOARD_PLOTS.items()]
        figures.append((f"{bank.slug}-shots", partial(shots, bank)))
    written: list[Path] = []
    with style():
        for name, draw in track(figures, "drawing"):
            figure = draw()
            written += save(figure, folder, name) if figure else []
    return written


def by_class(bank: Bank, board: Board) -> Figure | None:
    """Bars by class with 95 % intervals, one panel a result, classes in the order of the folds."""
    entries = board.entries[:MOST_PANELS]
    classes = sorted({(c.fold, c.class_id, c.name) for entry in entries for c in entry.scores.classes})
    if not classes:
        return None
    figure, axes = new_figure(max(6.0, 1.5 + 0.3 * len(classes)), 1.0 + 1.25 * len(entries), len(entries))
    for axis, entry, name in zip(axes, entries, _names(entries), strict=True):
        scores = {c.class_id: c.score for c in entry.scores.classes}
        held = [scores.get(class_id, Score(None)) for _, class_id, _ in classes]
        heights = [100 * (score.value or 0.0) for score in held]
        axis.bar(range(len(classes)), heights, width=0.72, color=BAR)
        _whiskers(axis, list(range(len(classes))), held)
        axis.set_title(name)
        axis.set_ylim(0, 100)
        axis.grid(visible=False, axis="x")
        mark_folds(axis, [fold for fold, _, _ in classes])
    axes[-1].set_xticks(range(len(classes)), [name for _, _, name in classes], rotation=60, ha="right")
    axes[-1].set_xlim(-0.6, len(classes) - 0.4)
    figure.supylabel("IoU, per cent", fontsize=9)
    _title(figure, bank, f"{board.way}-way {board.shot}-shot", entries)
    return figure


def by_size(bank: Bank, board: Board) -> Figure | None:
    """IoU against the object's share of its image: pooled in bins of equal numbers of episodes."""
    entries = board.entries[:MOST_PANELS]
    figure, (axis,) = new_figure(7.0, 4.2)
    drawn = 0
    for position, (entry, name) in enumerate(zip(entries, _names(entries), strict=True)):
        curve = size_curve(_rows(entry))
        if curve is not None:
            axis.plot(
                100 * curve.size, 100 * curve.value, color=colour(position), marker=marker(position), ms=4.5, lw=1.4,
                label=name,
            )  # fmt: skip
            drawn += 1
    if not drawn:
        return None
    _log_axis(axis, (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100))
    axis.set_xlabel("object's share of the image, per cent")
    axis.set_ylabel("IoU, per cent")
    axis.set_ylim(0, None)
    _legend(axis)
    _title(figure, bank, f"{board.way}-way {board.shot}-shot", entries)
    return figure


def size_curve(rows: pd.DataFrame, bins: int = SIZE_BINS) -> Curve | None:
    """The pooled IoU of episodes with objects of similar size. None for fewer than two episodes a bin."""
    rows = rows[(rows["class_id"] != BACKGROUND_CLASS) & (rows["tp"] + rows["fn"] > 0)]
    if len(rows) < 2 * bins:
        return None
    counts = rows[["tp", "fp", "fn"]].to_numpy(np.float64)
    valid = rows[["tp", "fp", "fn", "tn"]].sum(axis=1).to_numpy(np.float64)
    share = (counts[:, 0] + counts[:, 2]) / valid
    parts = np.array_split(np.argsort(share, kind="stable"), bins)
    middle = np.array([np.exp(np.log(share[part]).mean()) for part in parts])
    return Curve(middle, np.array([float(iou(counts[part].sum(0))) for part in parts]))


def by_episode(bank: Bank, board: Board) -> Figure | None:
    """How the IoU of single episodes is spread: one panel a result; the line is the median."""
    entries = board.entries[:MOST_PANELS]
    figure, axes = new_figure(6.4, 0.9 + 0.85 * len(entries), len(entries))
    edges = np.linspace(0.0, 100.0, 41)
    for axis, entry, name in zip(axes, entries, _names(entries), strict=True):
        rows = _rows(entry)
        values = 100 * episode_iou(rows[rows["class_id"] != BACKGROUND_CLASS]).dropna().to_numpy()
        weights = np.full(len(values), 100 / max(len(values), 1))
        axis.hist(values, bins=edges.tolist(), weights=weights, color=BAR)
        if len(values):
            axis.axvline(float(np.median(values)), color=INK, lw=1.2)
        axis.set_title(name, fontsize=8.5, pad=2)
        axis.set_yticks([])
        axis.tick_params(axis="x", length=0)
        axis.spines["left"].set_visible(False)
        axis.set_xlim(0, 100)
    axes[-1].set_xlabel("IoU of one episode, per cent; line: median")
    _title(figure, bank, f"{board.way}-way {board.shot}-shot", entries)
    return figure


def shots(bank: Bank) -> Figure | None:
    """mIoU against the number of shots, 1 way; a line a method. None with fewer than two numbers of shots."""
    ways = min(board.way for board in bank.boards)
    boards = [board for board in bank.boards if board.way == ways and not board.part]
    if len({board.shot for board in boards}) < 2:
        return None
    lines: dict[tuple[str, str], dict[int, Score]] = {}
    entries = [
        (board.shot, entry) for board in boards for entry in board.entries if entry.scores.miou.value is not None
    ]
    for (shot, entry), name in zip(entries, _names([entry for _, entry in entries]), strict=True):
        lines.setdefault((name, str(entry.first.setting)), {}).setdefault(shot, entry.scores.miou)
    several = {key: points for key, points in lines.items() if len(points) > 1}
    if not several:
        return None
    figure, (axis,) = new_figure(6.4, 4.4)
    ranked = sorted(several.items(), key=lambda item: -(item[1][max(item[1])].value or 0.0))
    for position, ((label, _), points) in enumerate(ranked):
        known = sorted(points)
        places = [shot * DODGE ** (position - len(ranked) / 2) for shot in known]  # intervals stand side by side
        held = [points[shot] for shot in known]
        axis.plot(
            places, [100 * (score.value or 0.0) for score in held], color=colour(position), marker=marker(position),
            ms=5, lw=1.4, label=label,
        )  # fmt: skip
        _whiskers(axis, places, held, colour(position))
    known = sorted({board.shot for board in boards})
    _log_axis(axis, known)
    axis.set_xlim(known[0] / 1.15, known[-1] * 1.15)
    axis.set_xlabel("shots")
    axis.set_ylabel("mIoU, per cent")
    _legend(axis)
    _title(figure, bank, f"{ways}-way", [entry for _, entry in entries])
    return figure


BOARD_PLOTS: dict[str, Callable[[Bank, Board], Figure | None]] = {
    "classes": by_class,
    "size": by_size,
    "episodes": by_episode,
}


def _rows(entry: Ranked) -> pd.DataFrame:
    """The episodes of all trainings."""
    return pd.concat([episodes_of(result) for result in entry.results], ignore_index=True)


def _names(entries: Sequence[Ranked]) -> list[str]:
    """What tells the results of a figure apart; a backbone that all of them have is in its title."""
    several = len({entry.run.backbone for entry in entries}) > 1
    return [_label(entry, several) for entry in entries]


def _label(entry: Ranked, with_backbone: bool) -> str:
    setting = entry.first.setting
    words = [method_label(setting), entry.run.backbone if with_backbone else "", setting.checkpoint]
    words += [f"{len(entry.results)} trainings"] if len(entry.results) > 1 else []
    words += [entry.trained] if entry.trained != "trained" else []
    return " ".join(_short(word) for word in words if word)


def _short(text: str, limit: int = 22) -> str:
    """Text on one line that a font can draw, cut where it would push the figure aside."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _title(figure: Figure, bank: Bank, task: str, entries: Sequence[Ranked]) -> None:
    backbones = {entry.run.backbone for entry in entries}
    words = [bank.title, f"protocol {bank.protocol}", task, *map(_short, backbones if len(backbones) == 1 else ())]
    figure.suptitle(", ".join(words), x=0.01, ha="left", fontsize=11)


def _errors(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """2 x n: how far each interval reaches below and above, in per cent; 0 where there is none."""
    reach = [
        (score.value - score.low, score.high - score.value)
        if score.value is not None and score.low is not None and score.high is not None
        else (0.0, 0.0)
        for score in scores
    ]
    errors: npt.NDArray[np.float64] = np.clip(100 * np.array(reach).T, 0.0, None)
    return errors


def _whiskers(axis: Axes, places: Sequence[float], scores: Sequence[Score], tone: str = INK) -> None:
    known = [(place, score) for place, score in zip(places, scores, strict=True) if score.low is not None]
    if known:
        held = [score for _, score in known]
        axis.errorbar(
            [place for place, _ in known], [100 * (score.value or 0.0) for score in held], yerr=_errors(held),
            fmt="none", ecolor=tone, elinewidth=0.9, capsize=1.5,
        )  # fmt: skip


def _log_axis(axis: Axes, ticks: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(FixedLocator([]))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(axis: Axes) -> None:
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, edgecolor=FAINT)
