"""`fssbench report` and `fssbench compare`: tables from records, and what of their differences is real."""

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
    with_published: bool = typer.Option(False, "--with-published", help="The papers' rows under ours."),
    intervals: bool = typer.Option(False, "--intervals", help="95 % intervals, by bootstrap over images."),
    protocol: str | None = typer.Option(
        None, "--protocol", help="Accumulate as another codebase does, as in `pfenet`."
    ),
    digits: int = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point."),
    out: Path | None = typer.Option(None, "--out", help="Write to this file instead of stdout."),
    force: bool = typer.Option(False, "--force", help="Overwrite --out."),
    as_json: bool = typer.Option(False, "--json", help="The same as `--format json`."),
) -> None:
    """Tables of results: method x backbone x weights, folds, mean and FB-IoU for each shot."""
    from fssbench.errors import RecordError
    from fssbench.protocol import find_protocol
    from fssbench.reports.entries.lens import through
    from fssbench.reports.entries.results import load_results
    from fssbench.reports.formats.render import render
    from fssbench.reports.tables.layouts import View

    lens = None if protocol is None else find_protocol(protocol)
    wanted = numbers(shots)
    found = [r for r in load_results(results) if wanted is None or r.shot in wanted]
    if not found:
        raise RecordError(f"no record below {results} has {wanted} shots")
    if lens is not None:
        found = [through(result, lens) for result in found]
    view = View(digits=digits, published=with_published, intervals=intervals, lens=lens)
    _write(render("json" if as_json else output.value, found, view, per_class=per_class), out, force)


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


class TextFormat(StrEnum):
    """What a comparison is printed as."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"
    JSON = "json"


@app.command("compare")
def compare(
    records: list[Path] = typer.Argument(help="Two or more records, or folders of them, on one bank."),
    output: TextFormat = typer.Option(TextFormat.MARKDOWN, "--format", "-f", help="What to print."),
    shots: list[str] | None = typer.Option(None, "--shots", help="Only these shots, as in `1 5`."),
    episodes: int = typer.Option(5, "--episodes", min=0, help="How many of the most different episodes to list."),
    digits: int = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point."),
    out: Path | None = typer.Option(None, "--out", help="Write to this file instead of stdout."),
    force: bool = typer.Option(False, "--force", help="Overwrite --out."),
    as_json: bool = typer.Option(False, "--json", help="The same as `--format json`."),
) -> None:
    """Paired tests on shared episodes: which differences are real, by class, and where they are largest."""
    import json

    from fssbench.reports.entries.results import load_results
    from fssbench.reports.formats.render import render_tables
    from fssbench.reports.studies.comparison import compare as compare_results
    from fssbench.reports.studies.comparison import comparison_data
    from fssbench.reports.tables.comparison import comparison_tables

    wanted = numbers(shots)
    found = [r for folder in records for r in load_results(folder) if wanted is None or r.shot in wanted]
    comparison = compare_results(found, extremes=episodes)
    if as_json or output is TextFormat.JSON:
        text = json.dumps(comparison_data(comparison), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = render_tables(output.value, comparison_tables(comparison, digits))
    _write(text, out, force)
