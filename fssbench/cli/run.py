"""`fssbench run`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app, errors, messages, numbers, print_json
from fssbench.cli.cluster import CLUSTER, CPUS, GPUS, MEMORY, asked_of, parse_bytes
from fssbench.cli.options import datasets_like, methods_like

if TYPE_CHECKING:
    from fssbench.engine.job import Outcome
    from fssbench.engine.outlook import Outlook


@app.command("run")
def run(
    methods: list[str] = typer.Argument(
        ..., autocompletion=methods_like, help="Methods by name (`fssbench methods`), or package.module:Class."
    ),
    shots: list[str] | None = typer.Option(None, "--shots", metavar="K...", help="Shots, as in `--shots 1 5`. [1]"),
    folds: list[str] | None = typer.Option(None, "--folds", metavar="F...", help="Folds. [all of the bank]"),
    bank: Path | None = typer.Option(None, "--bank", help="Episode bank. [the newest under episodes/]"),
    dataset: str | None = typer.Option(
        None, "--dataset", autocompletion=datasets_like, help="Take the newest bank of this data set."
    ),
    ways: int | None = typer.Option(None, "--ways", help="Take the newest bank of so many ways."),
    backbone: str | None = typer.Option(
        None, "--backbone", help="Another backbone than the paper's. [$FSSBENCH_BACKBONE, unless a checkpoint says]"
    ),
    weights: str | None = typer.Option(
        None,
        "--weights",
        metavar="imagenet|random|auto|PATH",
        help="auto: what `train` left in checkpoints/. PATH: a file, with {fold}, or such a folder. "
        "[imagenet, where that makes sense]",
    ),
    settings: list[str] | None = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config."),
    annotation: str = typer.Option("mask", "--annotation", help="Support labels: mask, box, scribble, eroded-3, ..."),
    out: Path = typer.Option(Path("results"), "--out", help="Folder for the records."),
    force: bool = typer.Option(False, "--force", help="Run again what is there already."),
    allow_contaminated: bool = typer.Option(
        False, "--allow-contaminated", help="Test checkpoints on classes they were trained on; records are marked."
    ),
    save_predictions: bool = typer.Option(False, "--save-predictions", help="Keep the predicted masks."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
    precision: str = typer.Option("fp32", "--precision", help="fp32 (official numbers), bf16 or fp16."),
    batch: int = typer.Option(8, "--batch", min=1, help="Episodes a step."),
    encode_batch: int | None = typer.Option(
        None, "--encode-batch", min=1, help="Images a batch. [1 on a CPU, else 16]"
    ),
    workers: int = typer.Option(2, "--workers", min=1, help="Threads that decode images."),
    cache: str = typer.Option("4GB", "--cache", metavar="SIZE", help="Memory for features; 0 encodes everything anew."),
    host_cache: str = typer.Option(
        "8GB", "--host-cache", metavar="SIZE", help="Of the host's memory, for what a GPU's --cache does not hold."
    ),
    spill: str = typer.Option(
        "20GB", "--spill", metavar="SIZE", help="Disk for features that exceed --cache; 0: none."
    ),
    spill_folder: Path | None = typer.Option(None, "--spill-folder", help="Where. [the system's temporary folder]"),
    channels_last: bool = typer.Option(False, "--channels-last", help="Memory layout of the encoder."),
    compile_: bool = typer.Option(False, "--compile", help="torch.compile encoder and head."),
    seed: int = typer.Option(0, "--seed", help="Seed of random weights."),
    cluster: str | None = CLUSTER,
    gpus_per_task: float | None = GPUS,
    cpus_per_task: float = CPUS,
    memory_per_task: str | None = MEMORY,
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would run, from where and how long; do nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the outcomes as JSON."),
) -> None:
    """Run methods on the episodes of a bank and write a record for each number of shots.

    The same command resumes a run that was cut off, and skips what is finished.
    """
    from fssbench.banks.newest import newest_bank
    from fssbench.cli.progress import RunProgress
    from fssbench.engine.build import MethodSpec
    from fssbench.engine.devices import pick_device
    from fssbench.engine.evaluate import Settings
    from fssbench.engine.outlook import outlook
    from fssbench.engine.run import RunRequest, run_methods

    chosen = Settings(
        device=pick_device("cpu" if cluster else device),
        precision=precision,
        annotation=annotation,
        workers=workers,
        head_batch=batch,
        encode_batch=encode_batch,
        cache=parse_bytes(cache) > 0,
        cache_bytes=parse_bytes(cache),
        host_bytes=parse_bytes(host_cache),
        spill_folder=(spill_folder or Path(tempfile.gettempdir())) if parse_bytes(spill) else None,
        spill_bytes=parse_bytes(spill),
        channels_last=channels_last,
        compile=compile_,
    )
    preferred = os.environ.get("FSSBENCH_BACKBONE")
    specs = [
        MethodSpec(name, tuple(settings or ()), backbone, weights, seed, preferred) for name in dict.fromkeys(methods)
    ]
    request = RunRequest(
        specs,
        bank or newest_bank(Path("episodes"), dataset, ways),
        chosen,
        numbers(shots) or [1],
        numbers(folds),
        out,
        force,
        save_predictions,
        allow_contaminated,
    )
    try:
        with RunProgress(messages, " ".join(methods), f"bank {request.bank}") as progress:
            if dry_run:
                _foretell(outlook(request, progress), as_json)
                return
            if cluster:
                from fssbench.cluster.run import run_on_cluster

                ask = asked_of(cluster, gpus_per_task, cpus_per_task, memory_per_task, device)
                outcomes = run_on_cluster(request, ask, progress)[0]
            else:
                outcomes = run_methods(request, progress)
    except KeyboardInterrupt:
        from fssbench.engine.provenance import command_line

        messages.print(f"interrupted; what is done is kept. To go on: {command_line()}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    _tell(outcomes, as_json)


def _foretell(found: list[Outlook], as_json: bool) -> None:
    if as_json:
        print_json([{**asdict(one), "folder": str(one.folder)} for one in found])
        return
    for one in found:
        typer.echo(one)
    known = [one.seconds for one in found if one.episodes]
    if len(known) > 1 and None not in known:
        typer.echo(f"together about {timedelta(seconds=round(sum(s for s in known if s)))}")


def _tell(outcomes: list[Outcome], as_json: bool) -> None:
    if as_json:
        keys = ("name", "shot", "state", "message", "summary")
        print_json([{**{k: getattr(o, k) for k in keys}, "folder": str(o.folder)} for o in outcomes])
    for outcome in outcomes:
        if outcome.state == "failed":
            errors.print(f"[bold red]failed:[/] {outcome.name} {outcome.shot}-shot:", outcome.message, soft_wrap=True)
        elif not as_json:
            typer.echo(f"{outcome.state}: {outcome.folder}")
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(2)
