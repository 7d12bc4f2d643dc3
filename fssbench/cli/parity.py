"""`fssbench parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fssbench.cli.app import app, messages, print_json
from fssbench.cli.options import Json


@app.command("parity")
def parity(
    paths: list[Path] = typer.Argument(..., metavar="FILE...", help="Parity cases (.npz), or folders of them."),
    as_json: Json = False,
) -> None:
    """Compare methods, and their training steps, with what their authors' code did. Status 1 if anything deviates."""
    from dataclasses import asdict

    from fssbench.errors import DataError
    from fssbench.parity.case import find_cases, load_case
    from fssbench.parity.compare import compare
    from fssbench.parity.rows import Row

    rows: list[dict[str, Any]] = []
    for file in [file for path in paths for file in find_cases(path)]:
        messages.print(file.name)
        case = load_case(file)
        try:
            rows += [asdict(row) for row in compare(case)]
        except DataError as error:  # no runner: it fails, and the others are compared all the same
            messages.print(str(error), markup=False, soft_wrap=True)
            rows.append(asdict(Row(case.name, "none compared", None, 0.0, False)))
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
