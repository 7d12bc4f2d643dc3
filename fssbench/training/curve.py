"""The picture of a training's losses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def draw_curve(log: Path, out: Path) -> None:
    """The loss of every step, smoothed over a fiftieth of them, as a PNG."""
    from matplotlib.figure import Figure

    from fssbench.files import atomic_path

    frame = pd.read_csv(log)
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(frame["loss"], color="0.8", linewidth=0.8, label="each step")
    window = max(1, len(frame) // 50)
    axes.plot(frame["loss"].rolling(window, min_periods=1).mean(), color="C0", label=f"mean of {window}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
