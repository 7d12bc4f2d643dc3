"""`fssbench train`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fssbench.cli.app import app, errors, messages, numbers, print_json
from fssbench.cli.cluster import CLUSTER, CPUS, GPUS, MEMORY, asked_of
from fssbench.cli.options import datasets_like, methods_like

if TYPE_CHECKING:
    from fssbench.cluster.connect import Ask
    from fssbench.training.loop import Trained
    from fssbench.training.request import TrainRequest
    from fssbench.training.updates import Report


@app.command("train")
def train(
    methods: list[str] = typer.Argument(
        ..., metavar="METHOD...", autocompletion=methods_like, help="Methods by name (`fssbench methods`)."
    ),
    dataset: str = typer.Option(
        ..., "--dataset", autocompletion=datasets_like, help="Data set whose base classes are trained on."
    ),
    folds: list[str] | None = typer.Option(None, "--folds", metavar="F...", help="Folds, each a training. [0]"),
    root: Path | None = typer.Option(None, "--root", help="Where the data lie [$FSSBENCH_DATA or data]."),
    lists: str | None = typer.Option(None, "--lists", help="Another list of training images than the data set's own."),
    recipe: str = typer.Option("paper", "--recipe", help="paper: as its authors trained it; lite: small, comparable."),
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the paper's."),
    settings: list[str] | None = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config."),
    steps: int | None = typer.Option(None, "--steps", min=1, help="Optimiser steps, instead of the recipe's."),
    batch: int | None = typer.Option(None, "--batch", min=1, help="Episodes a step, instead of the recipe's."),
    shots: int | None = typer.Option(None, "--shots", min=1, help="Supports an episode, instead of the recipe's."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of initial weights, episodes, augmentation and dropout."),
    out: Path = typer.Option(Path("checkpoints"), "--out", help="Folder of checkpoints."),
    weights: str = typer.Option("imagenet", "--weights", help="Where to start: imagenet or random."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:N or mps."),
    precision: str = typer.Option("fp32", "--precision", help="fp32 or bf16."),
    accumulate: int = typer.Option(1, "--accumulate", min=1, help="Parts of a batch, one after the other."),
    workers: int = typer.Option(2, "--workers", min=1, help="Threads that load; changes no number."),
    validate: int = typer.Option(3, "--validate", min=0, help="Evaluations on base classes that choose `best`."),
    select_on_test: bool = typer.Option(
        False, "--select-on-test", help="Choose `best` on the tested classes, as some published codes do; is marked."
    ),
    save_every: int = typer.Option(50, "--save-every", min=1, help="Steps between states to go on from."),
    whole: bool = typer.Option(False, "--whole", help="Keep a frozen encoder's weights in the checkpoint."),
    force: bool = typer.Option(False, "--force", help="Start anew where a training lies already."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what each stage would train and on what; do nothing."),
    cluster: str | None = CLUSTER,
    gpus_per_task: float | None = GPUS,
    cpus_per_task: float = CPUS,
    memory_per_task: str | None = MEMORY,
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Train methods on the base classes of a data set's folds; the same command goes on where it was cut off."""
    from fssbench.engine.devices import pick_device
    from fssbench.errors import UsageError
    from fssbench.training.distributed import processes
    from fssbench.training.loop import Run, Told
    from fssbench.training.request import TrainRequest

    if weights not in ("imagenet", "random"):
        raise UsageError(f"--weights {weights}: expected imagenet or random, where a training starts.")
    results: list[dict[str, Any]] = []
    away = bool(cluster) and not dry_run
    with processes(pick_device("cpu" if away else device)) as (place, rank):
        requests = [
            TrainRequest(
                name, dataset, fold, out, root, lists, recipe, backbone, tuple(settings or ()), steps, batch, shots,
                seed, place, precision, accumulate, workers, validate, select_on_test=select_on_test,
                save_every=save_every, whole=whole, force=force, start=weights,
            )
            for name in dict.fromkeys(methods)
            for fold in dict.fromkeys(numbers(folds) or [0])
        ]  # fmt: skip
        if cluster and away:
            _on_cluster(requests, asked_of(cluster, gpus_per_task, cpus_per_task, memory_per_task, device), as_json)
            return
        for request in requests:
            shown = _Shown(f"{request.method}, fold {request.fold}", quiet=rank > 0)
            run = Run(request, Told(shown.say, shown.step))
            if dry_run:
                results.append(
                    {"method": request.method, "fold": request.fold, "folder": str(run.folder), "stages": run.outline()}
                )
                if not as_json:
                    typer.echo("\n  ".join([f"{run.folder}", *run.outline()]))
                continue
            trained = run.train()
            if rank:
                continue
            results.append(_result(request, trained, as_json))
    if as_json:
        print_json(results)


def _result(request: TrainRequest, trained: Trained, as_json: bool) -> dict[str, Any]:
    """What came out, as JSON has it; told as a line otherwise."""
    if not as_json:
        chosen = f", best mIoU {100 * trained.best:.1f} at step {trained.best_step}" if trained.best else ""
        typer.echo(f"{trained.folder}: {trained.state}, {trained.steps} steps{chosen}")
    return {
        "method": request.method, "fold": request.fold, "folder": str(trained.folder), "steps": trained.steps,
        "best": trained.best, "best_step": trained.best_step, "state": trained.state,
    }  # fmt: skip


def _on_cluster(requests: list[TrainRequest], ask: Ask, as_json: bool) -> None:
    from fssbench.cluster.train import train_on_cluster

    learnings, _ = train_on_cluster(requests, ask, lambda text: messages.print(text, markup=False, soft_wrap=True))
    pairs = list(zip(requests, learnings, strict=True))
    results = [_result(request, done.trained, as_json) for request, done in pairs if done.trained]
    if as_json:
        print_json(results)
    failed = [done for _, done in pairs if not done.trained]
    for each in failed:
        errors.print("[bold red]failed:[/]", f"{each.name}: {each.failure}", soft_wrap=True)
    if failed:
        raise typer.Exit(2)


class _Shown:
    """A line now and then: step, losses, rate, speed, time left."""

    def __init__(self, title: str, quiet: bool) -> None:
        self._title, self._quiet = title, quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            messages.print(f"{self._title}: {text}", markup=False, soft_wrap=True)

    def step(self, step: int, total: int, report: Report, speed: float, left: float) -> None:
        if step % max(1, total // 20) and step != total:
            return
        terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
        pace = f"{speed:.1f} episodes/s, {timedelta(seconds=round(left))} left"
        self.say(f"step {step} of {total}, {terms}, rate {report.rate:.2g}, {pace}")
