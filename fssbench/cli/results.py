"""What commands that read records share: folders, filters, reading with warnings, writing once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import detail, messages, numbers, words

if TYPE_CHECKING:
    from fssbench.reports.entries.results import Result
    from fssbench.reports.tables.model import Table

RESULTS = typer.Argument(None, help="Records, or folders of records. [results]", show_default=False)
METHOD = typer.Option(None, "--method", metavar="NAME", help="Only this method; may be repeated, or `a,b`.")
BACKBONE = typer.Option(None, "--backbone", metavar="NAME", help="Only this backbone; may be repeated, or `a,b`.")
DATASET = typer.Option(None, "--dataset", metavar="NAME", help="Only this data set; may be repeated, or `a,b`.")
SHOTS = typer.Option(None, "--shots", metavar="K...", help="Only these shots, as in `1 5`. [all]")
WEIGHTS = typer.Option(
    None, "--weights", metavar="KIND", help="Only these weights: imagenet, checkpoint, authors, random, none; or `a,b`."
)
SORT = typer.Option("name", "--sort", metavar="name|mean|date", help="Order of results: by name, best or newest first.")
FORCE = typer.Option(False, "--force", help="Replace what is there.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")


def read_results(
    folders: Sequence[Path] | None,
    method: list[str] | None = None,
    backbone: list[str] | None = None,
    dataset: list[str] | None = None,
    shots: list[str] | None = None,
    sort: str = "name",
    weights: list[str] | None = None,
) -> list[Result]:
    """The results below the folders that fit the filters. A record that cannot be read is skipped with a warning."""
    from fssbench.reports.entries.choose import Wanted, ordered
    from fssbench.reports.entries.results import load_results

    def warn(text: str) -> None:
        messages.print(f"warning: {text}", markup=False, soft_wrap=True)

    roots = list(folders or [Path("results")])
    found = load_results(*roots, skipped=warn)
    detail(f"{len(found)} results in {', '.join(map(str, roots))}")
    wanted = Wanted(words(method), words(backbone), words(dataset), numbers(shots) or (), words(weights))
    return ordered(wanted.choose(found), sort)


def show_tables(tables: Sequence[Table], output: str | None, out: Path | None, force: bool) -> None:
    """As wide as the terminal where nothing else is asked for, else as text: to a file, a pipe or stdout."""
    from rich.console import Console

    from fssbench.reports.formats.terminal import to_terminal
    from fssbench.reports.render import render_tables

    if output is None and out is None and sys.stdout.isatty():
        to_terminal(tables, Console(highlight=False))
    else:
        write_text(render_tables(output or "markdown", tables), out, force)


def write_text(text: str, out: Path | None, force: bool) -> None:
    """To a file, which is never overwritten without `force`, or to stdout."""
    from fssbench.errors import UsageError
    from fssbench.files import atomic_write_text

    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists() and not force:
        raise UsageError(f"{out} exists already. Name another file, or add --force to overwrite it.")
    atomic_write_text(out, text)
    messages.print(f"wrote {out}", markup=False)


def empty_folder(out: Path, force: bool) -> None:
    """Raise `UsageError` for a folder that is not empty, unless `force`."""
    from fssbench.errors import UsageError

    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise UsageError(f"--out {out} is not empty. Name another folder, or write into this one with --force.")
