"""`fssbench robustness` and `fssbench suite`: drops from clean banks, and means over a suite of data sets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fssbench.cli.app import app, messages, track
from fssbench.cli.results import Chosen, Printing, empty_folder


@app.command("robustness")
def robustness_command(
    chosen: Chosen,
    plot: Path | None = typer.Option(None, "--plot", metavar="FOLDER", help="Draw score by severity; PNG and SVG."),
    *,
    printing: Printing,
) -> None:
    """What worse photographs and support masks cost: drops from the clean bank, paired, with intervals."""
    from fssbench.reports.studies.robustness import robustness
    from fssbench.reports.tables.robustness import robustness_tables

    found = robustness(chosen.read(), track)
    if plot is not None:
        from fssbench.reports.pictures.severity import draw_severities

        empty_folder(plot, printing.force)
        for path in draw_severities(found, plot):
            messages.print(f"wrote {path}", markup=False)
    data = [
        {"dataset": each.clean.place.dataset, "method": each.clean.setting.method, "shot": each.clean.shot,
         "backbone": each.clean.setting.backbone, "clean": each.miou,
         "conditions": {name: asdict(drop) for name, drop in each.drops.items()}}
        for each in found
    ]  # fmt: skip
    printing.show(robustness_tables(found, printing.digits), {"schema": 1, "robustness": data})


@app.command("suite")
def suite_command(
    suite: Annotated[str, typer.Argument(help="The suite: cross-domain.")],
    chosen: Chosen,
    printing: Printing,
) -> None:
    """A mean over a suite's data sets with its interval, the members beside it."""
    from fssbench.reports.studies.robustness import suite_lines
    from fssbench.reports.tables.robustness import suite_tables

    lines = suite_lines(suite, chosen.read(), track)
    data = [
        {"protocol": line.protocol, "method": line.setting.method, "backbone": line.setting.backbone, "shot": line.shot,
         "members": {name: asdict(each) for name, each in line.members.items()},
         "mean": asdict(line.mean) if line.mean else None}
        for line in lines
    ]  # fmt: skip
    printing.show(suite_tables(suite, lines, printing.digits), {"schema": 1, "suite": suite, "lines": data})
