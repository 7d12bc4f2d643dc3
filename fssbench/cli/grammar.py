"""How a command line is read, and how its help speaks: panels of commands, options that take several words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

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
