"""`fssbench sweep` and `fssbench cross-domain`."""

from __future__ import annotations

from pathlib import Path

import typer

from fssbench.cli.app import app, errors, messages, numbers, print_json
from fssbench.cli.cluster import CLUSTER, CPUS, GPUS, MEMORY, asked_of
from fssbench.cli.options import Json, Root


@app.command("sweep")
def sweep(
    file: Path = typer.Argument(..., metavar="FILE.toml", help="Methods, data sets, folds, recipe, shots and seeds."),
    root: Root = None,
    methods: list[str] | None = typer.Option(None, "--methods", metavar="M...", help="Only these of its methods."),
    status: bool = typer.Option(False, "--status", help="Say what is there and what lacks, and do nothing."),
    dry_run: bool = typer.Option(False, "--dry-run", help="List what would be made, in order, and do nothing."),
    cluster: str | None = CLUSTER,
    gpus_per_task: float | None = GPUS,
    cpus_per_task: float = CPUS,
    memory_per_task: str | None = MEMORY,
    as_json: Json = False,
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
        if dry_run:
            from fssbench.cluster.cost import cost_lines

            typer.echo("\n".join(cost_lines(asked, [task for task in everything if not task.done])))
        return

    def say(text: str) -> None:
        messages.print(text, markup=False, soft_wrap=True)

    if cluster:
        from fssbench.cluster.train import sweep_on_cluster

        ask = asked_of(cluster, gpus_per_task, cpus_per_task, memory_per_task, "auto")
        failed = sweep_on_cluster(asked, root, ask, say)[0]
    else:
        failed = carry_out(asked, root, say)
    if as_json:
        print_json([{"task": str(task), "error": str(error)} for task, error in failed])
    for task, error in failed:
        errors.print("[bold red]failed:[/]", f"{task}: {error}", soft_wrap=True)
    if failed:
        raise typer.Exit(2)


@app.command("cross-domain")
def cross_domain(
    methods: list[str] = typer.Argument(..., help="Methods by name."),
    root: Root = None,
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the paper's."),
    recipe: str = typer.Option("paper", "--recipe", help="paper: as its authors trained it; lite: small, comparable."),
    steps: int | None = typer.Option(None, "--steps", min=1, help="Optimiser steps, instead of the recipe's."),
    weights: str | None = typer.Option(None, "--weights", help="imagenet or random: test untrained methods."),
    shots: list[str] | None = typer.Option(None, "--shots", metavar="K...", help="Shots. [1 5]"),
    episodes: int | None = typer.Option(None, "--episodes", min=1, help="A data set. [600, FSS-1000: 2400]"),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the training."),
    banks: Path = typer.Option(Path("episodes"), "--banks", help="Folder of the banks; made where they lack."),
    out: Path = typer.Option(Path("results"), "--out", help="Folder of the records."),
    allow_contaminated: bool = typer.Option(
        False, "--allow-contaminated", help="Test also classes whose names are among PASCAL's; records are marked."
    ),
    banks_only: bool = typer.Option(False, "--banks-only", help="Make the four banks and nothing else."),
) -> None:
    """Train on PASCAL, test on DeepGlobe, ISIC 2018, Chest X-ray and FSS-1000, and print the suite's table."""
    from fssbench.errors import UsageError
    from fssbench.reports.entries.results import load_results
    from fssbench.reports.render import render_tables
    from fssbench.reports.studies.robustness import suite_lines
    from fssbench.reports.tables.robustness import suite_tables
    from fssbench.training.cross_domain import CrossDomain, carry_out, make_banks

    if weights not in (None, "imagenet", "random"):
        raise UsageError(f"--weights {weights}: expected imagenet or random, which train nothing.")
    asked = CrossDomain(
        methods, root, backbone, recipe, steps, tuple(numbers(shots) or (1, 5)), seed, episodes, banks, out=out,
        weights=weights, allow_contaminated=allow_contaminated,
    )  # fmt: skip

    def say(text: str) -> None:
        messages.print(text, markup=False, soft_wrap=True)

    if banks_only:
        for path in make_banks(asked, say):
            typer.echo(path)
        return
    found = load_results(*(outcome.folder for outcome in carry_out(asked, say)))
    typer.echo(render_tables("markdown", suite_tables("cross-domain", suite_lines("cross-domain", found))), nl=False)
