"""`fssbench robustness` and `fssbench suite`: drops from clean banks, and means over a suite of data sets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fssbench.cli.app import app, messages
from fssbench.cli.results import DIGITS, FILE, FORCE, JSON, Chosen, about_results, empty_folder, show


@app.command("robustness")
@about_results()
def robustness_command(
    chosen: Chosen,
    digits: int = DIGITS,
    plot: Path | None = typer.Option(None, "--plot", metavar="FOLDER", help="Draw score by severity; PNG and SVG."),
    out: Path | None = FILE,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """What worse photographs and support masks cost: drops from the clean bank, paired, with intervals."""
    from fssbench.reports.studies.robustness import robustness
    from fssbench.reports.tables.robustness import robustness_tables

    found = robustness(chosen.read())
    if plot is not None:
        from fssbench.reports.pictures.severity import draw_severities

        empty_folder(plot, force)
        for path in draw_severities(found, plot):
            messages.print(f"wrote {path}", markup=False)
    data = [
        {"dataset": each.clean.place.dataset, "method": each.clean.setting.method, "shot": each.clean.shot,
         "backbone": each.clean.setting.backbone, "clean": each.miou,
         "conditions": {name: asdict(drop) for name, drop in each.drops.items()}}
        for each in found
    ]  # fmt: skip
    document = {"schema": 1, "robustness": data}
    show(robustness_tables(found, digits), document, "json" if as_json else None, out, force)


@app.command("suite")
@about_results()
def suite_command(
    suite: Annotated[str, typer.Argument(help="The suite: cross-domain.")],
    chosen: Chosen,
    digits: int = DIGITS,
    out: Path | None = FILE,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """A mean over a suite's data sets with its interval, the members beside it."""
    from fssbench.reports.studies.robustness import suite_lines
    from fssbench.reports.tables.robustness import suite_table

    lines = suite_lines(suite, chosen.read())
    data = [
        {"method": line.setting.method, "backbone": line.setting.backbone, "shot": line.shot,
         "members": {name: asdict(each) for name, each in line.members.items()},
         "mean": asdict(line.mean) if line.mean else None}
        for line in lines
    ]  # fmt: skip
    document = {"schema": 1, "suite": suite, "lines": data}
    show([suite_table(suite, lines, digits)], document, "json" if as_json else None, out, force)
