"""`fssbench sweep`."""

from __future__ import annotations

from pathlib import Path

import typer

from fssbench.cli.app import app, errors, messages, print_json


@app.command("sweep")
def sweep(
    file: Path = typer.Argument(..., metavar="FILE.toml", help="Methods, data sets, folds, recipe, shots and seeds."),
    root: Path | None = typer.Option(None, "--root", help="Where the data lie [$FSSBENCH_DATA or data]."),
    methods: list[str] | None = typer.Option(None, "--methods", metavar="M...", help="Only these of its methods."),
    status: bool = typer.Option(False, "--status", help="Say what is there and what lacks, and do nothing."),
    dry_run: bool = typer.Option(False, "--dry-run", help="List what would be made, in order, and do nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Make every bank, training and record that FILE asks for and that lacks; the same command goes on after a kill."""
    from fssbench.training.sweep import carry_out, read_sweep, tasks

    asked = read_sweep(file).only(methods or [])
    if status or dry_run:
        everything = tasks(asked)
        listed = [task for task in everything if status or not task.done]
        if as_json:
            print_json([{"task": str(task), "kind": task.kind, "done": task.done} for task in listed])
            return
        for task in listed:
            typer.echo(f"{'done' if task.done else 'lacks'}  {task}" if status else str(task))
        typer.echo(f"{sum(task.done for task in everything)} of {len(everything)} done")
        return
    failed = carry_out(asked, root, lambda text: messages.print(text, markup=False, soft_wrap=True))
    if as_json:
        print_json([{"task": str(task), "error": str(error)} for task, error in failed])
    for task, error in failed:
        errors.print("[bold red]failed:[/]", f"{task}: {error}", soft_wrap=True)
    if failed:
        raise typer.Exit(2)
