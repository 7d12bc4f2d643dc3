"""The typer application, list options, and the one place where errors become messages and exit statuses."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from fssbench import __version__
from fssbench.errors import FssbenchError

ORDER = ("generate-episodes", "run", "report")  # the three commands most users need come first in the help


class _InOrder(TyperGroup):
    """Lists the commands of `ORDER` first, the others by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return [name for name in ORDER if name in names] + sorted(set(names) - set(ORDER))


app = typer.Typer(
    name="fssbench",
    cls=_InOrder,
    help="Few-shot segmentation on frozen episodes: one bank, any method, numbers that can be compared.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

messages = Console(stderr=True, highlight=False)

# Options that take several values as `--shots 1 5`, which click cannot express: the words that follow are joined to
# one value (`--shots 1,5`) before click sees them, as long as they look like the option's values.
LIST_OPTIONS: dict[str, re.Pattern[str]] = {
    "--shots": re.compile(r"\d+(,\d+)*"),
    "--folds": re.compile(r"\d+(,\d+)*"),
    "--seeds": re.compile(r"\d+(,\d+)*"),
}


# Options that take files until the next option: `--support IMG MASK IMG MASK --query A B`. Joined by line breaks.
FILE_OPTIONS = ("--support", "--query")


def join_list_options(arguments: Sequence[str]) -> list[str]:
    """`--shots 1 5` and `--shots 1 --shots 5` become what the option's callback splits: `--shots 1,5`.

    >>> join_list_options(["run", "canet", "--shots", "1", "5", "--force"])
    ['run', 'canet', '--shots', '1,5', '--force']
    """
    joined: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        joined.append(word)
        if word in LIST_OPTIONS:
            values = []
            while waiting and LIST_OPTIONS[word].fullmatch(waiting[0].strip(",")):
                values.append(waiting.pop(0).strip(","))
            if values:
                joined.append(",".join(values))
        elif word in FILE_OPTIONS:
            files = []
            while waiting and not waiting[0].startswith("-"):
                files.append(waiting.pop(0))
            if files:
                joined.append("\n".join(files))
    return joined


def numbers(values: list[str] | None) -> list[int] | None:
    """The numbers of a list option, in order and without repeats; None if it was not given."""
    if not values:
        return None
    words = [word for value in values for word in value.split(",") if word]
    bad = [word for word in words if not word.isdecimal()]
    if bad:
        raise typer.BadParameter(f"expected whole numbers as in `1 5` or `1,5`, found {bad[0]!r}")
    return list(dict.fromkeys(int(word) for word in words))


def print_json(value: Any) -> None:
    """Machine-readable output: one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fssbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that come before the command."""
    if debug:
        os.environ["FSSBENCH_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command; an `FssbenchError` is one message and status 2, Ctrl-C is 130."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait by spinning make a shared machine hundreds of times slower; has to be set before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fssbench.cli import commands  # noqa: F401  (registers the commands)

    if "--debug" in words:  # wherever it stands
        words.remove("--debug")
        os.environ["FSSBENCH_DEBUG"] = "1"
    try:
        app(join_list_options(words), standalone_mode=True)
    except FssbenchError as error:
        if os.environ.get("FSSBENCH_DEBUG"):
            raise
        messages.print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        messages.print("interrupted")
        raise SystemExit(130) from None


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
