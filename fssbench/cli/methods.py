"""`fssbench methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from fssbench.cli.app import app, messages, print_json
from fssbench.cli.options import Json, methods_like
from fssbench.errors import MethodError

if TYPE_CHECKING:
    from fssbench.method import Method


@app.command("methods")
def methods(
    name: str | None = typer.Argument(None, autocompletion=methods_like, help="Show this method and its settings."),
    as_json: Json = False,
) -> None:
    """List the methods, or show one with its settings and their defaults."""
    from fssbench.registry import find_method, method_names

    if name is not None:
        entry = _described(name, find_method(name), with_settings=True)
        print_json(entry) if as_json else _show(entry)
        return
    entries = []
    for known in method_names():
        try:
            entries.append(_described(known, find_method(known)))
        except MethodError as error:  # one broken plug-in must not hide the others
            messages.print(f"{known}: {error}", markup=False, soft_wrap=True)
    print_json(entries) if as_json else _list(entries)


def _described(name: str, cls: type[Method], *, with_settings: bool = False) -> dict[str, Any]:
    from dataclasses import asdict

    from fssbench.settings import describe_settings

    info = asdict(cls.info)
    # Every method takes any number of shots: that is part of the contract.
    entry = {"name": name, **info, "shots": "any", "ways": info.pop("max_ways") or "any"}
    entry.pop("max_ways", None)
    entry["type"] = "baseline" if cls.info.baseline else "trained" if cls.info.trainable else "training-free"
    if with_settings:
        entry["settings"] = [asdict(setting) for setting in describe_settings(cls.Config)]
    return entry


def _remarks(entry: dict[str, Any]) -> str:
    remarks = {
        "our_reading": "our reading of the paper",
        "untrained": "works untrained",
        "uses_auxiliary": "uses auxiliary images",
        "base_learner": "trained in two steps, a base learner first",
    }
    weightless = [] if entry["trainable"] else ["has nothing to train"]
    return ", ".join([*(words for key, words in remarks.items() if entry[key]), *weightless])


def _list(entries: list[dict[str, Any]]) -> None:
    from tabulate import tabulate

    rows = [
        {
            "name": entry["name"],
            "method": entry["title"],
            "type": entry["type"],
            "venue": f"{entry['venue']} {entry['year']}",
            "backbones": ", ".join(entry["backbones"]) or "none",
            "supervision": ", ".join(entry["annotations"]),
            "ways": entry["ways"],
            "shots": entry["shots"],
            "paper": entry["paper"],
            "remarks": _remarks(entry),
        }
        for entry in entries
    ]
    typer.echo(tabulate(rows, headers="keys", disable_numparse=True))
    typer.echo("\n`fssbench methods NAME` shows a method's settings. Other backbones go by --backbone.")


def _show(entry: dict[str, Any]) -> None:
    from tabulate import tabulate

    facts = {
        "name": entry["name"],
        "paper": f"{entry['paper']} ({entry['venue']} {entry['year']})",
        "type": entry["type"],
        "address": entry["url"] or "none",
        "authors' code": entry["code"] or "none published",
        "backbones": f"{', '.join(entry['backbones'])}; any other by --backbone" if entry["backbones"] else "none",
        "supervision": ", ".join(entry["annotations"]),
        "ways": entry["ways"] if entry["ways"] == "any" else f"{entry['ways']}; more are run one by one and merged",
        "shots": entry["shots"],
        "remarks": _remarks(entry) or "none",
    }
    typer.echo(entry["title"])
    typer.echo(tabulate(facts.items(), tablefmt="plain", disable_numparse=True))
    typer.echo("\nSettings, each by --set NAME=VALUE:\n")
    typer.echo(tabulate(entry["settings"], headers="keys", disable_numparse=True))
