"""`fssbench new-method` and `fssbench conformance`: for the author of a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fssbench.cli.app import app, print_json


@app.command("new-method")
def new_method(
    name: str = typer.Argument(..., help="What it is called: lower-case letters, digits and underscores."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Folder to write; must not exist. [./NAME]"),
) -> None:
    """Write a method that runs, its test, and an entry point that gives it a name."""
    from fssbench.scaffold import class_name, write_method

    folder = write_method(name, out or Path(name))
    file, cls = folder / f"{name}.py", class_name(name)
    typer.echo(f"{folder}: {name}.py, test_{name}.py, pyproject.toml\n")
    typer.echo(f"fssbench conformance {file}:{cls}")
    typer.echo(f"fssbench run {file}:{cls} --dataset shapes5i")
    typer.echo(f"pip install -e {folder}    # then it goes by its name: fssbench run {name}")


@app.command("conformance")
def conformance(
    method: str = typer.Argument(..., help="Method by name, or module:Class."),
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the small one."),
    settings: list[str] | None = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config."),
    only: list[str] | None = typer.Option(None, "--only", metavar="CHECK", help="This check alone; can be repeated."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Check that a method does what the engine relies on. Status 1 if it does not."""
    from fssbench.conformance import CHECKS, failure, small_subject
    from fssbench.errors import UsageError, unknown_name
    from fssbench.registry import find_method

    unknown = [name for name in only or () if name not in CHECKS]
    if unknown:
        raise UsageError(unknown_name("check", unknown[0], CHECKS))
    chosen = [*([f"backbone={backbone}"] if backbone else []), *(settings or ())]
    subject = small_subject(find_method(method), chosen)
    rows: list[dict[str, Any]] = []
    for name in only or CHECKS:
        problem = failure(CHECKS[name], subject)
        rows.append({"check": name, "passed": problem is None, "problem": problem or ""})
    print_json(rows) if as_json else _table(rows, subject.config.model_dump())
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


def _table(rows: list[dict[str, Any]], config: dict[str, Any]) -> None:
    from fssbench.conformance import CHECKS
    from fssbench.settings import as_text

    typer.echo("checked with " + " ".join(f"{name}={as_text(value)}" for name, value in config.items()) + "\n")
    for row in rows:
        typer.echo(
            f"{'passes' if row['passed'] else 'FAILS '}  {row['check']}: {(CHECKS[row['check']].__doc__ or '').strip()}"
        )
        if not row["passed"]:
            typer.echo(f"        {row['problem']}")
    failed = sum(not row["passed"] for row in rows)
    typer.echo(f"\n{len(rows) - failed} of {len(rows)} checks pass.")
