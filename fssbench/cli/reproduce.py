"""`fssbench reproduce`: the way to a paper's tables."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from fssbench.cli.app import app, messages, print_json
from fssbench.cli.options import Json, Root


@app.command("reproduce")
def reproduce(
    paper: str = typer.Argument(help="A method by name, as in `canet`: its paper's tables."),
    run: bool = typer.Option(False, "--run", help="Run the steps that are not done, one after the other."),
    dataset: str = typer.Option("pascal5i", "--dataset", help="Whose tables."),
    protocol: str | None = typer.Option(None, "--protocol", help="Another protocol than the paper's."),
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the paper's."),
    recipe: str = typer.Option("paper", "--recipe", help="paper: as its authors trained it; lite: small, comparable."),
    root: Root = None,
    checkpoints: Path = typer.Option(Path("checkpoints"), "--checkpoints", help="Folder of checkpoints."),
    out: Path = typer.Option(Path("results"), "--out", help="Folder for the records."),
    as_json: Json = False,
) -> None:
    """Print the way to a paper's tables (data, bank, checkpoints, runs, report) and which steps are done."""
    from fssbench.reproduce import Wish, take, way

    wish = Wish(paper, dataset, protocol, backbone, recipe, root, checkpoints=checkpoints, results=out)
    steps = way(wish)
    if as_json:
        print_json([asdict(step) for step in steps])
    else:
        for step in steps:
            typer.echo(f"[{'done' if step.done else 'to do'}] {step.what}: fssbench {shlex.join(step.command)}")
            if step.remark and not step.done:
                typer.echo(f"       {step.remark}")
    if run and (status := take(steps, _execute)):
        raise typer.Exit(status)


def _execute(command: Sequence[str]) -> int:
    messages.print(f"fssbench {shlex.join(command)}", markup=False, soft_wrap=True)
    return subprocess.run([sys.executable, "-m", "fssbench", *command], check=False).returncode
