"""Commands about data: `download`, `doctor`, `show`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app, messages, print_json, track

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fssbench.doctor import Health

ROOT = typer.Option(None, "--root", help="Where the data lies; else $FSSBENCH_DATA, else ./data.")
FORCE = typer.Option(False, "--force", help="Replace what is there.")
JSON = typer.Option(False, "--json", help="Machine-readable output.")


@app.command("download")
def download_command(
    dataset: str = typer.Argument(help="pascal5i, coco20i or fss1000."),
    to: Path = typer.Option(Path("data"), "--out", help="Folder to put the data set into; made if it is not there."),
    parts: list[str] | None = typer.Option(None, "--parts", help="Archives, as in `--parts val2017,annotations2017`."),
    url: str | None = typer.Option(None, "--url", help="A mirror: a file's address, or a folder's, ending in '/'."),
    digest: str | None = typer.Option(None, "--hash", help="What the file must hash to: sha256:HEX or md5:HEX."),
    keep: bool = typer.Option(False, "--keep", help="Keep the archives after unpacking."),
    force: bool = typer.Option(False, "--force", help="Fetch again what is noted as done."),
    as_json: bool = JSON,
) -> None:
    """Fetch a data set: resumable, checked by size and hash, unpacked into --out and nowhere else."""
    from dataclasses import asdict

    from fssbench.download.catalogue import find_source
    from fssbench.download.fetch import download

    chosen = [part for value in parts or [] for part in value.split(",") if part]
    done = download(dataset, to, _step, parts=chosen, mirror=url, digest=digest, keep=keep, force=force)
    source = find_source(dataset)
    if as_json:
        print_json([asdict(fetched) for fetched in done])
    else:
        for fetched in done:
            typer.echo(f"{fetched.part}: {fetched.state}, {fetched.files} files")
    messages.print(f"layout: {source.layout}", markup=False, soft_wrap=True)
    if source.note:
        messages.print(source.note, markup=False, soft_wrap=True)
    messages.print(f"check it by `fssbench doctor {dataset} --root {to}`", markup=False, soft_wrap=True)


@contextmanager
def _step(description: str) -> Iterator[_Bar]:
    """A progress bar of one archive's transfer or unpacking, on stderr."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )  # fmt: skip

    columns: list[ProgressColumn] = [TextColumn("{task.description}")]
    if description.startswith("unpacking"):
        columns += [TextColumn("{task.completed} files")]
    else:
        columns += [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=messages, disable=not messages.is_terminal) as bar:
        yield _Bar(bar, bar.add_task(description, total=None))


class _Bar:
    """What `fssbench.download.fetch` tells its progress to."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def bytes_done(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def files_done(self, files: int) -> None:
        self._bar.update(self._task, completed=files)


@app.command("show")
def show_command(
    bank: Path = typer.Argument(help="The bank."),
    episode: int | None = typer.Option(None, "--episode", help="The episode to draw."),
    out: Path = typer.Option(Path("episode.png"), "--out", help="The PNG to write."),
    fold: int | None = typer.Option(None, "--folds", help="The fold. [0; with --sheet all of them]"),
    shots: int | None = typer.Option(None, "--shots", help="Supports a way. [all; with --sheet 1]"),
    way: int | None = typer.Option(None, "--way", help="Only this way, counted from 1."),
    annotation: str | None = typer.Option(None, "--annotation", help="Only this weak annotation: box, scribble, ..."),
    sheet: int | None = typer.Option(None, "--sheet", min=1, help="So many episodes, on one sheet, instead of one."),
    force: bool = FORCE,
) -> None:
    """Draw an episode: support, mask, annotation, query and truth side by side; or a sheet of many."""
    from fssbench.banks.bank import open_bank
    from fssbench.errors import UsageError
    from fssbench.files import atomic_path
    from fssbench.show import contact_sheet, episode_picture, spread

    if (episode is None) == (sheet is None):
        raise UsageError("expected either --episode or --sheet, found both or neither.")
    if out.exists() and not force:
        raise UsageError(f"{out} exists already. Name another file by --out, or add --force to replace it.")
    with open_bank(bank) as opened:
        if sheet is not None:
            picture = contact_sheet(opened, spread(opened, sheet, fold), shots or 1)
        else:
            ways = None if way is None else [way]
            kinds = None if annotation is None else [annotation] if annotation != "mask" else []
            picture = episode_picture(opened, fold or 0, episode or 0, shots, ways=ways, kinds=kinds)
    with atomic_path(out) as temporary:
        picture.save(temporary, "PNG")
    messages.print(f"wrote {out}", markup=False)


@app.command("doctor")
def doctor_command(
    dataset: str = typer.Argument(help="pascal5i, coco20i, fss1000, shapes5i or folder."),
    root: Path | None = ROOT,
    lists: str | None = typer.Option(None, "--lists", help="Image list, as for generate-episodes."),
    split: str | None = typer.Option(None, "--split", help="COCO's class split: interleaved or consecutive."),
    quick: bool = typer.Option(False, "--quick", help="Read headers of images only: overlooks truncated ones."),
    as_json: bool = JSON,
) -> None:
    """Look at all images and masks of a data set and say what is missing or wrong; exit status 1 if anything is."""
    from dataclasses import asdict

    from fssbench.datasets.registry import open_dataset
    from fssbench.doctor import examine

    health = examine(dataset, lambda: open_dataset(dataset, root, pool=lists, split=split), track, quick=quick)
    if as_json:
        print_json({**asdict(health), "healthy": health.healthy})
    else:
        _tell(health)
    if not health.healthy:
        raise typer.Exit(1)


def _tell(health: Health) -> None:
    """A data set's health in words; of many findings the first ones."""
    most = 20
    if health.images:
        typer.echo(f"{health.dataset} {health.pool}: {health.images} images")
        typer.echo("images a class: " + ", ".join(f"{name} {count}" for name, count in health.class_images.items()))
    for note in health.notes:
        typer.echo(f"note: {note}")
    for finding in health.findings[:most]:
        typer.echo(f"wrong: {finding.problem}")
    if len(health.findings) > most:
        typer.echo(f"... and {len(health.findings) - most} more (--json lists all)")
    typer.echo("nothing is wrong" if health.healthy else f"{len(health.findings)} things are wrong")
