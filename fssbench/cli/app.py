"""The typer application: what every command has in common, and the one place where errors become exit statuses.

0: all is well. 1: the command worked and found something wrong (`audit`, `verify`, `diff`, `doctor`, `parity`).
2: a mistake that the user can mend, told in one message. 130: interrupted.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from fssbench import __version__
from fssbench.errors import FssbenchError

# What the option parser raises for words that it does not understand; typer may bring a click of its own.
Misunderstood: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

# What the commands act on, in the order of the help: everyday ones first, what few people ever need last.
PANELS: dict[str, tuple[str, ...]] = {
    "Everyday": ("generate-episodes", "run", "report"),
    "Results": (
        "compare",
        "agreement",
        "leaderboard",
        "plot",
        "gallery",
        "sensitivity",
        "robustness",
        "suite",
        "audit",
        "score",
        "sweep",
        "cross-domain",
        "reproduce",
    ),
    "Methods": ("methods", "new-method", "train", "predict", "speed"),
    "Data sets": ("download", "adopt", "doctor"),
    "Episode banks": ("show", "inspect", "verify", "diff", "corrupt", "attach", "export"),
    "Other commands": (),  # those that are not named here
    "Conversions and checks": ("import-checkpoint", "checkpoint", "convert-sbd", "conformance", "parity"),
}
_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}

# Options that take several values as in `--shots 1 5` or `--support IMG MASK IMG MASK`: the words that follow belong
# to them as long as they look like values. (`--shots 1,5` and `--shots 1 --shots 5` say the same.)
_NUMBERS = re.compile(r"\d+(,\d+)*,?")
_NO_OPTION = re.compile(r"[^-].*", re.DOTALL)
LIST_OPTIONS = {
    "--shots": _NUMBERS, "--folds": _NUMBERS, "--seeds": _NUMBERS, "--support": _NO_OPTION, "--query": _NO_OPTION,
    "--methods": _NO_OPTION,
}  # fmt: skip

SYNONYMS = {"--fold": "--folds", "--to": "--out", "--shot": "--shots"}  # understood, though help has one word for it

messages = Console(stderr=True, highlight=False)  # what --quiet silences
errors = Console(stderr=True, highlight=False)
_COMMON = "Options of every command"
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Command(TyperCommand):
    """A command whose list options take the words that follow them, and whose help speaks of values, not of Python."""

    def get_params(self, ctx: Any) -> Any:
        return _in_words(super().get_params(ctx))

    def make_parser(self, ctx: Any) -> Any:
        parser = super().make_parser(ctx)
        known = parser._long_opt
        for name, pattern in LIST_OPTIONS.items():
            option = known.get(name)
            if option is not None and option.action == "append":
                setattr(option, "process", _taking_more(option.process, pattern))  # noqa: B010
        for word, name in SYNONYMS.items():
            if name in known:
                known.setdefault(word, known[name])
        return parser


def _taking_more(process: Callable[[Any, Any], None], pattern: re.Pattern[str]) -> Callable[[Any, Any], None]:
    """Handle a value, then the words after it that look like further values."""

    def take(value: Any, state: Any) -> None:
        process(value, state)
        while state.rargs and pattern.fullmatch(state.rargs[0]):
            process(state.rargs.pop(0), state)

    return take


def _in_words(params: Any) -> Any:
    """Parameters as help shows them: values by name instead of Python's types, "[1]" as it stands, -o for --out."""
    for param in params:
        if getattr(param, "in_words", False):
            continue
        param.in_words = True
        if getattr(param, "help", None):
            param.help = escape(param.help)
        if param.param_type_name == "argument":
            param.display_type_rich = lambda **_: None
        elif getattr(param, "metavar", None) is None:
            param.metavar = _metavar(param)
        if "--out" in param.opts and "-o" not in param.opts:
            param.opts.append("-o")
    return params


def _metavar(param: Any) -> str | None:
    """How help names an option's value: nothing for a switch, the choices of a choice, else the kind of thing."""
    if getattr(param, "is_flag", False):
        return ""
    kind = str(getattr(param, "type_descriptor", None) or param.type).lower()
    if "strenum" in kind or "choice" in kind or "literal" in kind or "enum" in kind:
        return None
    return next((name for word, name in (("path", "PATH"), ("float", "X"), ("int", "N")) if word in kind), "TEXT")


class Group(TyperGroup):
    """Lists commands by what they act on."""

    def get_params(self, ctx: Any) -> Any:
        return _in_words(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        def place(name: str) -> tuple[int, int, str]:
            panel = _PANEL_OF.get(name, "Other commands")
            names = PANELS[panel]
            return list(PANELS).index(panel), names.index(name) if name in names else 0, name

        return sorted(super().list_commands(ctx), key=place)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and ctx.parent is None:
            setattr(command, "rich_help_panel", _PANEL_OF.get(cmd_name, "Other commands"))  # noqa: B010
        return command


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


def _show_file(wanted: bool) -> None:
    if wanted:
        from fssbench.cli.config import describe_file

        typer.echo(describe_file())
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
