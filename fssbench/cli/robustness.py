"""`fssbench robustness` and `fssbench suite`: drops from clean banks, and means over a suite of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app
from fssbench.cli.results import (
    BACKBONE,
    DATASET,
    FORCE,
    JSON,
    METHOD,
    RESULTS,
    SHOTS,
    read_results,
    show_tables,
    write_text,
)

if TYPE_CHECKING:
    from fssbench.reports.tables.model import Table

OUT = typer.Option(None, "--out", help="Write markdown to this file instead of stdout.")


@app.command("robustness")
def robustness_command(
    results: list[Path] | None = RESULTS,
    method: list[str] | None = METHOD,
    backbone: list[str] | None = BACKBONE,
    dataset: list[str] | None = DATASET,
    shots: list[str] | None = SHOTS,
    digits: int = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point."),
    out: Path | None = OUT,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """What worse photographs and support masks cost: drops from the clean bank, paired, with intervals."""
    from fssbench.reports.studies.robustness import robustness
    from fssbench.reports.tables.robustness import robustness_tables

    found = robustness(read_results(results, method, backbone, dataset, shots))
    data = [
        {"dataset": each.clean.place.dataset, "method": each.clean.setting.method, "shot": each.clean.shot,
         "backbone": each.clean.setting.backbone, "clean": each.miou,
         "conditions": {name: asdict(drop) for name, drop in each.drops.items()}}
        for each in found
    ]  # fmt: skip
    _show(robustness_tables(found, digits), {"schema": 1, "robustness": data}, as_json, out, force)


@app.command("suite")
def suite_command(
    suite: str = typer.Argument(help="The suite: cross-domain."),
    results: list[Path] | None = RESULTS,
    method: list[str] | None = METHOD,
    backbone: list[str] | None = BACKBONE,
    shots: list[str] | None = SHOTS,
    digits: int = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point."),
    out: Path | None = OUT,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """A mean over a suite's data sets with its interval, the members beside it."""
    from fssbench.reports.studies.robustness import suite_lines
    from fssbench.reports.tables.robustness import suite_table

    lines = suite_lines(suite, read_results(results, method, backbone, None, shots))
    data = [
        {"method": line.setting.method, "backbone": line.setting.backbone, "shot": line.shot,
         "members": {name: asdict(each) for name, each in line.members.items()},
         "mean": asdict(line.mean) if line.mean else None}
        for line in lines
    ]  # fmt: skip
    _show([suite_table(suite, lines, digits)], {"schema": 1, "suite": suite, "lines": data}, as_json, out, force)


def _show(tables: Sequence[Table], data: object, as_json: bool, out: Path | None, force: bool) -> None:
    import json

    if as_json:
        write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", out, force)
    else:
        show_tables(tables, None, out, force)
