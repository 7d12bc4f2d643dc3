"""The typer application: what every command has in common, and the one place where errors become exit statuses.

0: all is well. 1: the command worked and found something wrong (`audit`, `verify`, `diff`, `doctor`, `parity`).
2: a mistake that the user can mend, told in one message. 130: interrupted.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape

from fssbench import __version__
from fssbench.cli.grammar import Command, Group
from fssbench.errors import FssbenchError

# What the option parser raises for words that it does not understand; typer may bring a click of its own.
Misunderstood: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

messages = Console(stderr=True, highlight=False)  # what --quiet silences
errors = Console(stderr=True, highlight=False)
_COMMON = "Options of every command"
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class App(typer.Typer):
    """A typer application that gives every command -q, -v, --debug and --show-config.

    What several commands share is a frozen dataclass whose fields are `Annotated[type, typer.Option(...)]`: a command
    with a parameter of that class has an option for each field.
    """

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        register = super().command(name, **({"cls": Command} | options))

        def add(function: F) -> F:
            register(_with_options(function))
            return function

        return add


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as typer takes it: groups of options field by field, and after them what all commands have."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for own in inspect.signature(function).parameters.values():
        parameters += _fields(groups[own.name]) if own.name in groups else [own.replace(annotation=hints[own.name])]
    common = [name for name in _COMMON_OPTIONS if name not in {one.name for one in parameters}]

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        for name in common:
            values.pop(name)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        return function(**values)

    key = inspect.Parameter.KEYWORD_ONLY
    parameters += [inspect.Parameter(name, key, default=_COMMON_OPTIONS[name], annotation=bool) for name in common]
    parameters = [each.replace(kind=key) for each in parameters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _fields(kind: Any) -> list[inspect.Parameter]:
    hints, key = get_type_hints(kind, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(f.name, key, default=f.default, annotation=hints[f.name]) for f in fields(kind)]


def _quiet(wanted: bool) -> bool:
    if wanted:
        messages.quiet = True
    return wanted


def _verbose(wanted: bool) -> bool:
    if wanted:
        os.environ["FSSBENCH_VERBOSE"] = "1"
    return wanted


def _debug(wanted: bool) -> bool:
    if wanted:
        os.environ["FSSBENCH_DEBUG"] = "1"
    return wanted


def _show_config(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        from fssbench.cli.config import describe

        typer.echo(describe(ctx))
        raise typer.Exit


def _show_file(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        from fssbench.cli.config import describe_file

        typer.echo(describe_file(ctx))
        raise typer.Exit


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fssbench {__version__}")
        raise typer.Exit


_COMMON_OPTIONS: dict[str, Any] = {
    "quiet": typer.Option(
        False, "--quiet", "-q", callback=_quiet, rich_help_panel=_COMMON, help="Print results and errors only."
    ),
    "verbose": typer.Option(
        False, "--verbose", "-v", callback=_verbose, rich_help_panel=_COMMON, help="Say also what is taken for granted."
    ),
    "debug": typer.Option(
        False, "--debug", callback=_debug, rich_help_panel=_COMMON, help="Show the traceback of an error."
    ),
    "show_config": typer.Option(
        False, "--show-config", callback=_show_config, is_eager=True, rich_help_panel=_COMMON,
        help="Print the command's defaults and where each is from, and do nothing.",
    ),
}  # fmt: skip

app = App(
    name="fssbench",
    cls=Group,
    help="Few-shot segmentation on frozen episodes: one bank, any method, numbers that can be compared.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=escape("Defaults may stand in fssbench.toml, or in pyproject.toml under [tool.fssbench]."))
def options(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    quiet: bool = _COMMON_OPTIONS["quiet"],
    verbose: bool = _COMMON_OPTIONS["verbose"],
    debug: bool = _COMMON_OPTIONS["debug"],
    show_config: bool = typer.Option(
        False,
        "--show-config",
        callback=_show_file,
        is_eager=True,
        rich_help_panel=_COMMON,
        help="Print the defaults that a file here sets.",
    ),
) -> None:
    """Options that come before the command."""
    from pathlib import Path

    from fssbench.cli.config import defaults, read_config

    path, config = read_config(Path.cwd())
    if path is not None:
        ctx.default_map = defaults(ctx.command, path, config)
        detail(f"defaults from {path}")


def numbers(values: list[str] | None) -> list[int] | None:
    """The numbers of a list option, in order and without repeats; None if it was not given."""
    if not values:
        return None
    words = [word for value in values for word in value.split(",") if word]
    bad = [word for word in words if not word.isdecimal()]
    if bad:
        raise typer.BadParameter(f"expected whole numbers as in `1 5` or `1,5`, found {bad[0]!r}")
    return list(dict.fromkeys(int(word) for word in words))


def words(values: list[str] | None) -> list[str]:
    """The words of an option that may be repeated, or given as `a,b`."""
    return list(dict.fromkeys(word.strip() for value in values or () for word in value.split(",") if word.strip()))


def detail(text: str) -> None:
    """Something that only --verbose prints."""
    if os.environ.get("FSSBENCH_VERBOSE"):
        messages.print(text, markup=False, soft_wrap=True)


def track(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar that counts them on a terminal."""
    from rich.progress import track as bar

    return bar(items, description=what, console=messages, transient=True, disable=not messages.is_terminal)


def print_json(value: Any) -> None:
    """Machine-readable output: one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command, and turn what goes wrong into a message and an exit status."""
    if sys.platform == "win32":  # files locked, forked into and renamed over as POSIX has it
        errors.print("error: fssbench needs Linux or macOS. On Windows it runs under WSL.")
        raise SystemExit(2)
    # Threads that wait by spinning make a shared machine hundreds of times slower; has to be set before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fssbench.cli import commands  # noqa: F401  (registers the commands)

    switches = {name: os.environ.get(name) for name in ("FSSBENCH_DEBUG", "FSSBENCH_VERBOSE")}
    try:
        words = None if arguments is None else list(arguments)
        raise SystemExit(app(words, prog_name="fssbench", standalone_mode=False) or 0)
    except (FssbenchError, OSError, Misunderstood) as error:
        if os.environ.get("FSSBENCH_DEBUG"):
            raise
        if type(error).__name__ != "NoArgsIsHelpError":  # which has printed the help already
            errors.print(f"[bold red]error:[/] {escape(_in_short(error))}", soft_wrap=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        errors.print("interrupted")
        raise SystemExit(130) from None
    finally:
        messages.quiet = False
        for name, value in switches.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _in_short(error: Exception) -> str:
    """An error in one message: what is wrong, where, and what to do."""
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, FssbenchError):
        return str(error)
    where = getattr(error, "ctx", None)
    more = f" `{where.command_path} --help` says more." if where else ""
    return f"{getattr(error, 'format_message')()}{more}"  # noqa: B009


def _of_the_system(error: OSError) -> str:
    """What the operating system refused, where, and what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    place = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
    hint = "Name another place by --out, or change its permissions" if place else "Try again with --debug for details"
    return f"{place}: {reason}. {hint}." if place else f"{reason}. {hint}."
