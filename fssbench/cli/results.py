"""What commands that read records share: folders, filters, reading with warnings, writing once."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fssbench.cli.app import detail, messages, numbers, words

if TYPE_CHECKING:
    from fssbench.reports.entries.results import Result
    from fssbench.reports.tables.model import Table

Names = list[str] | None
FORCE = typer.Option(False, "--force", help="Replace what is there.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")
DIGITS = typer.Option(1, "--digits", min=0, max=6, help="Digits after the point.")
FILE = typer.Option(None, "--out", help="Write to this file instead of stdout.")
FORMAT = typer.Option(
    None, "--format", "-f", help="What to print. [a table as wide as the terminal; markdown into a pipe or file]"
)


@dataclass(frozen=True)
class Chosen:
    """The results that a command is about, as its arguments and filters name them."""

    results: list[Path] | None
    method: Names
    backbone: Names
    dataset: Names
    shots: Names
    weights: Names
    sort: str = "name"

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
        return ordered(choose(found, wanted), self.sort)


def _only(what: str, values: str = "may be repeated, or `a,b`.") -> Any:
    return typer.Option(None, f"--{what}", metavar="NAME", help=f"Only this {what}; {values}")


_OPTIONS: dict[str, Any] = {  # how the command line has the fields of a `Chosen`
    "results": typer.Argument(None, help="Records, or folders of records. [results]", show_default=False),
    "method": _only("method"),
    "backbone": _only("backbone"),
    "dataset": _only("dataset"),
    "shots": typer.Option(None, "--shots", metavar="K...", help="Only these shots, as in `1 5`. [all]"),
    "weights": _only("weights", "imagenet, checkpoint, authors, random, none; or `a,b`."),
    "sort": typer.Option(
        "name", "--sort", metavar="name|mean|date", help="Order of results: by name, best or newest first."
    ),
}


def about_results(*, sort: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command gets RESULTS, the filters and, with `sort`, an order, in place of its parameter `chosen`."""
    names = [name for name in _OPTIONS if sort or name != "sort"]
    kinds = {name: kind for name, kind in inspect.get_annotations(Chosen, eval_str=True).items() if name in names}

    def around(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            function(chosen=Chosen(**{name: values.pop(name) for name in names}), **values)

        signature, parameters = inspect.signature(function), []
        for own in signature.parameters.values():
            if own.name == "chosen":
                parameters += [own.replace(name=n, default=_OPTIONS[n], annotation=kinds[n]) for n in names]
            else:
                parameters.append(own)
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {k: v for k, v in function.__annotations__.items() if k != "chosen"} | kinds
        return command

    return around


def show_tables(tables: Sequence[Table], output: str | None, out: Path | None, force: bool) -> None:
    """As wide as the terminal where nothing else is asked for, else as text: to a file, a pipe or stdout."""
    from rich.console import Console

    from fssbench.reports.formats.terminal import to_terminal
    from fssbench.reports.render import render_tables

    if output is None and out is None and sys.stdout.isatty():
        to_terminal(tables, Console(highlight=False))
    else:
        write_text(render_tables(output or "markdown", tables), out, force)


def show(tables: Sequence[Table], data: object, output: str | None, out: Path | None, force: bool) -> None:
    """What was found as tables, or as one JSON document where `output` is "json"."""
    from fssbench.reports.formats.plain import to_json

    if output == "json":
        write_text(to_json(data), out, force)
    else:
        show_tables(tables, output, out, force)


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
