"""`fssbench predict`, `score` and `speed`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app, messages, numbers, print_json
from fssbench.cli.options import Force, Json, methods_like
from fssbench.errors import UsageError

if TYPE_CHECKING:
    from fssbench.engine.build import MethodSpec

METHOD = typer.Argument(
    ..., autocompletion=methods_like, help="A method by name (`fssbench methods`), or package.module:Class."
)
BACKBONE = typer.Option(None, "--backbone", help="Another backbone than the paper's. [$FSSBENCH_BACKBONE]")
WEIGHTS = typer.Option(None, "--weights", metavar="imagenet|random|PATH", help="[imagenet, where that makes sense]")
SET = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config.")
DEVICE = typer.Option("auto", "--device", help="auto, cpu, cuda or mps.")
PRECISION = typer.Option("fp32", "--precision", help="fp32, bf16 or fp16.")


def _spec(method: str, settings: list[str] | None, backbone: str | None, weights: str | None) -> MethodSpec:
    from fssbench.engine.build import MethodSpec

    return MethodSpec(method, tuple(settings or ()), backbone, weights, 0, os.environ.get("FSSBENCH_BACKBONE"))


@app.command("predict")
def predict(
    method: str = METHOD,
    support: list[str] = typer.Option(
        ...,
        "--support",
        metavar="IMG MASK...",
        help="Pairs of image and mask, as any tool writes them; with --data, images of it.",
    ),
    query: list[str] = typer.Option(..., "--query", metavar="IMG...", help="Images to segment."),
    out: Path = typer.Option(Path("predictions"), "--out", help="Folder for <name>.mask.png and <name>.overlay.png."),
    class_id: str | None = typer.Option(
        None, "--class-id", help="The object's value, or #rrggbb, in masks of several."
    ),
    data: str | None = typer.Option(
        None, "--data", metavar="DATASET", help="Your dataset.toml, to take supports from."
    ),
    title: str | None = typer.Option(None, "--class", metavar="NAME", help="With --data: the class to look for."),
    fold: int = typer.Option(0, "--folds", help="The fold, where --weights holds one checkpoint a fold."),
    backbone: str | None = BACKBONE,
    weights: str | None = WEIGHTS,
    settings: list[str] | None = SET,
    device: str = DEVICE,
    precision: str = PRECISION,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Segment your own images with a method, from one or more support images with masks."""
    from PIL import Image

    from fssbench.datasets.registry import open_dataset
    from fssbench.engine import predict as engine
    from fssbench.engine.build import build_method
    from fssbench.engine.devices import pick_device
    from fssbench.engine.supports import support_of, supports_of
    from fssbench.files import atomic_path
    from fssbench.show import overlay

    words = [word for value in support for word in value.split("\n")]
    queries = [Path(word) for value in query for word in value.split("\n")]
    if data is None and len(words) % 2:
        raise UsageError(f"--support takes pairs of image and mask, found {len(words)} files")
    if data is not None:
        supports = supports_of(open_dataset(data), words, title)
    else:
        files = [Path(word) for word in words]
        supports = [support_of(*pair, class_id) for pair in zip(files[::2], files[1::2], strict=True)]
    targets = {path: (out / f"{path.stem}.mask.png", out / f"{path.stem}.overlay.png") for path in queries}
    if len({t for pair in targets.values() for t in pair}) < 2 * len(targets):
        raise UsageError("--query: two images of the same name would be written to one file; predict them one by one")
    taken = [target for pair in targets.values() for target in pair if target.exists()]
    if taken and not force:
        raise UsageError(f"{taken[0]} exists already; choose another --out, or --force to replace it")
    built, _ = build_method(_spec(method, settings, backbone, weights), fold)
    written = []
    for path, image, mask in engine.predict(built, supports, queries, pick_device(device), precision):
        for target, picture in zip(targets[path], (Image.fromarray(mask * 255), overlay(image, mask)), strict=True):
            with atomic_path(target) as temporary:
                picture.save(temporary, "PNG")
        written.append({"query": str(path), "mask": str(targets[path][0]), "overlay": str(targets[path][1])})
        if not as_json:
            typer.echo(f"wrote {targets[path][0]}\nwrote {targets[path][1]}")
    if as_json:
        print_json(written)


@app.command("export")
def export_command(
    bank: Path = typer.Argument(..., help="The bank."),
    out: Path = typer.Option(..., "--out", help="The folder to write."),
    shots: int | None = typer.Option(None, "--shots", help="Supports a way. [all]"),
    folds: list[str] | None = typer.Option(None, "--folds", metavar="F...", help="Folds. [all]"),
    truth: bool = typer.Option(False, "--truth", help="The queries' truth as well."),
    force: Force = False,
) -> None:
    """Write a bank's images, support masks and episodes as plain files, for a program in any language."""
    from fssbench.banks.bank import open_bank
    from fssbench.cli.app import track
    from fssbench.cli.data import quoted
    from fssbench.export import export

    with open_bank(bank) as opened:
        manifest = export(opened, out, folds=numbers(folds), shots=shots, truth=truth, force=force, progress=track)
        used = shots or opened.shots
    typer.echo(f"wrote {manifest}; masks for it go into a folder of <fold>/<episode>.png with a copy of that manifest:")
    typer.echo(f"  fssbench score FOLDER --bank {quoted(bank)} --shots {used} --name NAME")


@app.command("score")
def score(
    predictions: Path = typer.Argument(
        ..., help="predictions.h5, or a folder of <fold>/<episode>.png with manifest.json."
    ),
    bank: Path = typer.Option(..., "--bank", help="The bank whose episodes they are."),
    shots: list[str] = typer.Option(..., "--shots", metavar="K", help="Shots they were made with."),
    name: str = typer.Option(..., "--name", help="The method, as tables should print it."),
    folds: list[str] | None = typer.Option(None, "--folds", metavar="F...", help="Folds. [all]"),
    backbone: str = typer.Option("unknown", "--backbone", help="For the table."),
    note: str = typer.Option("", "--note", help="Where the masks come from."),
    out: Path = typer.Option(Path("results"), "--out", help="Folder for the record."),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score masks that any program made on a bank's episodes, and that name it (`fssbench.submissions`)."""
    from fssbench.banks.bank import open_bank
    from fssbench.records import read_run
    from fssbench.score import Submission, score_predictions

    wanted = numbers(shots) or []
    if len(wanted) != 1:
        raise UsageError(f"--shots: expected the one number of shots the masks were made with, found {wanted}")
    submission = Submission(predictions, name, wanted[0], backbone=backbone, note=note)
    with open_bank(bank) as opened:
        folder = score_predictions(submission, opened, numbers(folds), out, force)
    if as_json:
        print_json({"folder": str(folder), "summary": read_run(folder).summary})
    else:
        typer.echo(f"finished: {folder}")


@app.command("speed")
def speed(
    method: str = METHOD,
    bank: Path = typer.Option(..., "--bank", help="The bank to run on."),
    fold: int = typer.Option(0, "--folds", help="The fold to run."),
    shots: list[str] | None = typer.Option(None, "--shots", metavar="K...", help="Shots. [1 5]"),
    episodes: int | None = typer.Option(None, "--episodes", min=1, help="Only the first so many. [all]"),
    off_episodes: int = typer.Option(16, "--off-episodes", min=1, help="Episodes to time with the cache off."),
    cache: str = typer.Option("4GB", "--cache", metavar="SIZE", help="Memory for features."),
    backbone: str | None = BACKBONE,
    weights: str | None = WEIGHTS,
    settings: list[str] | None = SET,
    device: str = DEVICE,
    precision: str = PRECISION,
    channels_last: bool = typer.Option(False, "--channels-last", help="Memory layout of the encoder."),
    as_json: Json = False,
) -> None:
    """Time decode, encode, head and scoring, and compare the whole with the floor: each part alone, once."""
    import tempfile

    from fssbench.banks.bank import open_bank
    from fssbench.cli.cluster import parse_bytes
    from fssbench.engine.build import build_method
    from fssbench.engine.devices import pick_device
    from fssbench.engine.evaluate import Settings
    from fssbench.engine.speed import measure

    chosen = Settings(
        device=pick_device(device), precision=precision, cache_bytes=parse_bytes(cache),
        spill_folder=Path(tempfile.gettempdir()), channels_last=channels_last,
    )  # fmt: skip
    built, _ = build_method(_spec(method, settings, backbone, weights), fold)
    with open_bank(bank) as opened:
        got = measure(opened, fold, method, built, numbers(shots) or [1, 5], chosen, episodes, off_episodes)
    if as_json:
        print_json(got.to_json())
        return
    typer.echo(f"{method} on {got.device}, fold {fold}, {got.episodes} episodes at {got.shots} shots")
    for phase, seconds in sorted(got.phases.items(), key=lambda item: -item[1]):
        typer.echo(f"  {phase:10s} {seconds:9.2f} s  {100 * seconds / got.total:5.1f} %")
    typer.echo(f"  {'total':10s} {got.total:9.2f} s  {got.episodes_per_second:.1f} episodes/s")
    parts = f"{got.distinct_images} images x {1000 * got.encode_each:.1f} ms"
    parts += f" + {got.distinct_supports} supports x {1000 * got.pool_each:.1f} ms" if got.distinct_supports else ""
    parts += "".join(f" + {got.episodes} heads x {1000 * s:.1f} ms ({k}-shot)" for k, s in got.head_each.items())
    typer.echo(f"  floor      {got.floor:9.2f} s  {parts}")
    typer.echo(f"  ratio      {got.ratio:9.2f}")
    typer.echo(
        f"  memory     {got.peak_memory_bytes / 2**30:9.2f} GiB, {got.cache_peak_bytes / 2**30:.2f} of it features"
    )
    for shot in got.shots:
        times = f"{got.off[shot] / got.on[shot]:.1f} times the {got.on[shot]:.2f} s with it"
        typer.echo(f"  cache off  {got.off[shot]:9.2f} s at {shot}-shot (scaled from a sample): {times}")
    if not got.off_counts_equal:
        messages.print("[bold red]the counts with the cache off differ[/]")
        raise typer.Exit(1)
