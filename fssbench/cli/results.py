"""What commands that read records share: folders, filters, reading with warnings, writing once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fssbench.cli.app import detail, messages, numbers, words
from fssbench.cli.options import Force

if TYPE_CHECKING:
    from fssbench.reports.entries.results import Result
    from fssbench.reports.tables.model import Table

Names = list[str] | None
S = TypeVar("S")
T = TypeVar("T")
ONLY = "may be repeated, or `a,b`."


@dataclass(frozen=True)
class Chosen:
    """The results that a command is about, as its arguments and filters name them."""

    results: Annotated[
        list[Path] | None, typer.Argument(help="Records, or folders of records. [results]", show_default=False)
    ] = None
    method: Annotated[Names, typer.Option(metavar="NAME", help=f"Only this method; {ONLY}")] = None
    backbone: Annotated[Names, typer.Option(metavar="NAME", help=f"Only this backbone; {ONLY}")] = None
    dataset: Annotated[Names, typer.Option(metavar="NAME", help=f"Only this data set; {ONLY}")] = None
    shots: Annotated[Names, typer.Option(metavar="K...", help="Only these shots, as in `1 5`. [all]")] = None
    weights: Annotated[
        Names,
        typer.Option(metavar="NAME", help="Only these weights; imagenet, checkpoint, authors, random, none; or `a,b`."),
    ] = None

    @property
    def folders(self) -> list[Path]:
        return list(self.results or [Path("results")])

    def read(self) -> list[Result]:
        """The results below the folders that fit. A record that cannot be read is skipped with a warning."""
        from fssbench.reports.entries.choose import FILTERS, choose, ordered
        from fssbench.reports.entries.results import load_results

        def warn(text: str) -> None:
            messages.print(f"warning: {text}", markup=False, soft_wrap=True)

        found = load_results(*self.folders, skipped=warn)
        detail(f"{len(found)} results in {', '.join(map(str, self.folders))}")
        wanted = {name: words(getattr(self, name)) for name in FILTERS}
        wanted["shots"] = [str(shot) for shot in numbers(self.shots) or ()]
        return ordered(choose(found, wanted), getattr(self, "sort", "name"))


@dataclass(frozen=True)
class Ordered(Chosen):
    """The same, in an order of the user's."""

    sort: Annotated[
        str, typer.Option(metavar="name|mean|date", help="Order of results: by name, best or newest first.")
    ] = "name"


@dataclass(frozen=True)
class Ranking(Ordered):
    """The same for rankings, which are best first if nothing else is asked for."""

    sort: Annotated[
        str, typer.Option(metavar="mean|name|date", help="Order of each ranking: best first, by name, or newest first.")
    ] = "mean"


class Format(StrEnum):
    """What tables are printed as."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True)
class Printing:
    """How tables are printed, and where to."""

    output: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="What to print. [a table as wide as the terminal; markdown into a pipe or file]"
        ),
    ] = None
    digits: Annotated[int, typer.Option("--digits", min=0, max=6, help="Digits after the point.")] = 1
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead of stdout.")] = None
    force: Force = False
    as_json: Annotated[bool, typer.Option("--json", help="The same as `--format json`.")] = False

    @property
    def format(self) -> str | None:
        """What was asked for by name."""
        return "json" if self.as_json else self.output

    @property
    def on_screen(self) -> bool:
        """Whether tables go to a terminal, which has a width and colours."""
        return self.format is None and self.out is None and sys.stdout.isatty()

    def show(self, tables: Sequence[Table], data: object = None) -> None:
        """Tables as wide as the terminal where nothing else is asked for, else as text; `data` as one JSON document."""
        from rich.console import Console

        from fssbench.reports.formats.plain import to_json
        from fssbench.reports.formats.terminal import to_terminal
        from fssbench.reports.render import render_tables

        if self.on_screen:
            to_terminal(tables, Console(highlight=False))
        else:
            self.write(to_json(data) if self.format == "json" else render_tables(self.format or "markdown", tables))

    def write(self, text: str) -> None:
        """Text to the file or to stdout."""
        write_text(text, self.out, self.force)


def where_possible(items: Iterable[S], work: Callable[[S], T]) -> list[T]:
    """`work` of each item. One that cannot be done is told and keeps no other from being done; if none can be, the
    first error is raised."""
    from fssbench.errors import RecordError, UsageError

    done, problems = [], []
    for item in items:
        try:
            done.append(work(item))
        except (RecordError, UsageError) as error:
            problems.append(error)
    if problems and not done:
        raise problems[0]
    for problem in problems:
        messages.print(f"skipped: {problem}", markup=False, soft_wrap=True)
    return done


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
        raise UsageError(f"{out} is not empty. Name another folder, or write into this one with --force.")
