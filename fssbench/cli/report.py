"""`fssbench report`: tables from records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from fssbench.cli.app import app, messages, numbers


class Format(StrEnum):
    """What tables are printed as."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


@app.command("report")
def report(
    results: Path = typer.Argument(Path("results"), help="Folder of records, or one record."),
    output: Format = typer.Option(Format.MARKDOWN, "--format", "-f", help="What to print."),
    shots: list[str] | None = typer.Option(None, "--shots", help="Only these shots, as in `1 5`."),
    per_class: bool = typer.Option(False, "--per-class", help="IoU of every class instead of every fold."),
    digits: int = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point."),
    out: Path | None = typer.Option(None, "--out", help="Write to this file instead of stdout."),
    force: bool = typer.Option(False, "--force", help="Overwrite --out."),
) -> None:
    """Tables of results: method x backbone x weights, folds, mean and FB-IoU for each shot."""
    from fssbench.reports.layouts import class_tables, fold_tables
    from fssbench.reports.markdown import to_markdown
    from fssbench.reports.results import load_results

    wanted = numbers(shots)
    found = [r for r in load_results(results) if wanted is None or r.shot in wanted]
    tables = class_tables(found, digits) if per_class else fold_tables(found, digits)
    _write(to_markdown(tables), out, force)


def _write(text: str, out: Path | None, force: bool) -> None:
    from fssbench.errors import UsageError
    from fssbench.files import atomic_write_text

    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists() and not force:
        raise UsageError(f"{out} exists already. Name another file, or add --force to overwrite it.")
    atomic_write_text(out, text)
    messages.print(f"wrote {out}")
