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
        BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn,
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
