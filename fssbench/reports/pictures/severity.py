"""Score by severity: a panel for each kind of worse photograph or support mask, a line a method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fssbench.reports.entries.lines import method_label, title
from fssbench.reports.pictures.style import colour, marker, new_figure, save, style
from fssbench.reports.studies.robustness import Robustness, by_place

_CONDITION = re.compile(r"(?P<kind>.+)-(?P<level>[1-5])")
_COLUMNS = 4


def draw_severities(found: Sequence[Robustness], folder: Path) -> list[Path]:
    """A figure for each clean bank and number of shots; PNG and SVG, named after them."""
    written: list[Path] = []
    with style():
        for members in by_place(found):
            place, shot = members[0].clean.place, members[0].clean.shot
            name = f"{place.dataset}-{place.fingerprint[:8]}-{place.way}way-{shot}shot-severity"
            written += save(by_severity(members), folder, name)
    return written


def by_severity(members: Sequence[Robustness]) -> Figure:
    """mIoU against severity, 0 being the clean bank; bars are the paired intervals of the drops."""
    kinds = list(dict.fromkeys(kind for each in members for kind in _levels(each)))
    columns = min(_COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure, axes = new_figure(1.9 * columns + 2.2, 1.9 * rows + 0.6, rows, columns=columns)
    for axis, kind in zip(axes[: len(kinds)], kinds, strict=True):
        for position, each in enumerate(members):
            levels = _levels(each).get(kind)
            if levels is None:
                continue
            points = [(0, each.miou, 0.0, 0.0), *sorted(levels)]
            places, values, below, above = (list(column) for column in zip(*points, strict=True))
            axis.errorbar(
                places, [100 * v for v in values], yerr=[[100 * v for v in below], [100 * v for v in above]],
                color=colour(position), marker=marker(position), ms=4, lw=1.2, elinewidth=0.9, capsize=1.5,
                label=method_label(each.clean.setting),
            )  # fmt: skip
        axis.set_title(kind.replace("_", " "), fontsize=9)
        axis.set_xticks(range(6), ["clean", *"12345"])
        axis.set_xlim(-0.3, 5.3)
    for number, axis in enumerate(axes):
        axis.set_visible(number < len(kinds))
        axis.tick_params(labelbottom=number + columns >= len(kinds))
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8.5)
    figure.supylabel("mIoU, per cent", fontsize=9)
    figure.supxlabel("severity", fontsize=9)
    place, shot = members[0].clean.place, members[0].clean.shot
    figure.suptitle(f"{title(place)}, {shot}-shot", x=0.01, ha="left", fontsize=11)
    return figure


def _levels(each: Robustness) -> dict[str, list[tuple[int, float, float, float]]]:
    """Kind -> its (level, mIoU, reach of the interval below and above); of two kinds at once: none."""
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, drop in each.drops.items():
        if (match := _CONDITION.fullmatch(name)) and ", " not in name:
            reach = max(drop.difference - drop.low, 0.0), max(drop.high - drop.difference, 0.0)
            found.setdefault(match["kind"], []).append((int(match["level"]), drop.first, *reach))
    return found
