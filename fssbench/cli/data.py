"""Commands about data: `download`, `doctor`, `show`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app, messages, print_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ROOT = typer.Option(None, "--root", help="Where the data lies; else $FSSBENCH_DATA, else ./data.")
FORCE = typer.Option(False, "--force", help="Replace what is there.")
JSON = typer.Option(False, "--json", help="Machine-readable output.")


@app.command("download")
def download_command(
    dataset: str = typer.Argument(help="pascal5i, coco20i or fss1000."),
    to: Path = typer.Option(Path("data"), "--to", help="Folder to put the data set into; made if it is not there."),
    parts: list[str] | None = typer.Option(None, "--parts", help="Archives, as in `--parts val2017,annotations2017`."),
    url: str | None = typer.Option(None, "--url", help="A mirror: a file's address, or a folder's, ending in '/'."),
    digest: str | None = typer.Option(None, "--hash", help="What the file must hash to: sha256:HEX or md5:HEX."),
    keep: bool = typer.Option(False, "--keep", help="Keep the archives after unpacking."),
    force: bool = typer.Option(False, "--force", help="Fetch again what is noted as done."),
    as_json: bool = JSON,
) -> None:
    """Fetch a data set: resumable, checked by size and hash, unpacked into --to and nowhere else."""
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
    fold: int | None = typer.Option(None, "--fold", help="The fold. [0; with --sheet all of them]"),
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
