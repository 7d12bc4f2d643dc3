"""`fssbench parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fssbench.cli.app import app, messages, print_json


@app.command("parity")
def parity(
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder of parity cases (.npz), or one of them."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Compare methods with what their authors' code returned. Status 1 if a tensor deviates too much."""
    from dataclasses import asdict

    from fssbench.parity.case import find_cases, load_case
    from fssbench.parity.compare import compare

    rows: list[dict[str, Any]] = []
    for file in find_cases(folder):
        messages.print(file.name)
        rows += [asdict(row) for row in compare(load_case(file))]
    print_json(rows) if as_json else _table(rows)
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


def _table(rows: list[dict[str, Any]]) -> None:
    from tabulate import tabulate

    shown = [
        [
            row["case"],
            row["tensor"],
            _short(row["deviation"]),
            _short(row["tolerance"]),
            "yes" if row["passed"] else "NO",
        ]
        for row in rows
    ]
    typer.echo(tabulate(shown, headers=["case", "tensor", "max deviation", "tolerance", "pass"], disable_numparse=True))
    failed = sum(not row["passed"] for row in rows)
    typer.echo(f"\n{len(rows) - failed} of {len(rows)} tensors pass.")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
