"""Defaults from a file: `fssbench.toml`, or `[tool.fssbench]` in `pyproject.toml`, where the command is called.

A key is an option's name. Outside a table it is the default of every command that has the option; `[run]` holds those
of one command (`["leaderboard build"]` of one with two words). `out` outside a table is the folder of records: `run`
and `score` write there, and what reads records looks there. The command line and the environment come first.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fssbench.errors import UsageError, unknown_name

FILE = "fssbench.toml"
WRITES_RECORDS = ("run", "score")


def read_config(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file that sets defaults in `folder`, and what it says. Raises `UsageError` for one that is no TOML."""
    for path, keys in ((folder / FILE, ()), (folder / "pyproject.toml", ("tool", "fssbench"))):
        if not path.is_file():
            continue
        try:
            content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            if not keys:
                raise UsageError(f"{path}: expected TOML, found none: {error}") from error
            continue  # somebody else's file
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        if isinstance(content, dict):
            return path, content
    return None, {}


def defaults(group: Any, path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What click takes for `default_map`: command -> parameter -> value. Raises `UsageError` for an unknown key."""
    commands = dict(_commands(group))
    shared = {_plain(key): value for key, value in config.items() if not isinstance(value, dict)}
    tables = {
        name: {_plain(key): v for key, v in table.items()} for name, table in config.items() if isinstance(table, dict)
    }
    every = {_option(param) for command in commands.values() for param in command.params}
    _refuse_unknown(f"{path}", "option", shared, every)
    _refuse_unknown(f"{path}", "command", tables, commands)
    for name, table in tables.items():
        _refuse_unknown(f"{path}: [{name}]", "option", table, {_option(param) for param in commands[name].params})
    found: dict[str, Any] = {}
    for name, command in commands.items():
        *groups, last = name.split(" ")
        place = found
        for part in groups:
            place = place.setdefault(part, {})
        place[last] = {}
        for param in command.params:
            value = tables.get(name, {}).get(_option(param), shared.get(_shared_key(name, param)))
            if value is not None:
                place[last][param.name] = _as_typed(value, param)
    return found


def _refuse_unknown(where: str, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = set(known) - {""}
    for word in given:
        if word not in names:
            raise UsageError(f"{where}: {unknown_name(kind, word, names)}")


def _option(param: Any) -> str:
    """The key of a parameter; empty for one that no file may set."""
    if param.param_type_name == "argument":
        return "results" if param.name == "results" else ""
    name = next((word.removeprefix("--") for word in param.opts if word.startswith("--")), "")
    return "" if name in ("quiet", "verbose", "debug", "show-config", "help", "version") else name


def _shared_key(command: str, param: Any) -> str:
    """The key outside a table that sets a parameter: `out` is the folder of records, whoever reads or writes it."""
    option = _option(param)
    if option == "out" and command not in WRITES_RECORDS:
        return ""
    return "out" if option == "results" else option


def describe(ctx: Any) -> str:
    """A command's defaults as TOML, each with where it is from."""
    path, _ = read_config(Path.cwd())
    lines = []
    for param in ctx.command.params:
        key = _option(param)
        if not key:
            continue
        variable = getattr(param, "envvar", None)
        variables = [variable] if isinstance(variable, str) else list(variable or ())
        value: Any
        named = next((name for name in variables if os.environ.get(name)), None)
        if named:
            value, source = os.environ[named], f"environment: {named}"
        elif ctx.default_map and param.name in ctx.default_map:
            value, source = ctx.default_map[param.name], str(path)
        else:
            value, source = param.get_default(ctx, call=False), "default"
        if value is not None and value is not ...:
            lines.append(f"{key} = {_toml(value)}  # {source}")
    return "\n".join(lines)


def describe_file(ctx: Any) -> str:
    """Which file sets defaults here, and what it says. Raises `UsageError` for what no command understands."""
    path, config = read_config(Path.cwd())
    if path is None:
        return f"# no {FILE} here, and no [tool.fssbench] in pyproject.toml"
    defaults(ctx.command, path, config)
    return "\n".join([f"# {path}", *_lines(config)])


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{key} = {_toml(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"[{key}]" if key.replace("-", "").isalnum() else f'["{key}"]'
            yield from _lines(value)


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _as_typed(value: Any, param: Any) -> Any:
    """A value as somebody would have typed it: click converts words, switches excepted."""
    many = getattr(param, "multiple", False) or param.nargs != 1
    if many:
        return [str(item) for item in (value if isinstance(value, list) else [value])]
    return value if isinstance(value, bool) else str(value)


def _plain(name: str) -> str:
    return name.replace("_", "-")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return (
        str(value)
        if isinstance(value, (int, float))
        else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
