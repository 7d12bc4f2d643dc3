"""Commands about data: `download`, `doctor`, `show`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import app, messages, print_json, track
from fssbench.cli.options import Force, Json, Root, datasets_like

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fssbench.doctor import Health


@app.command("download")
def download_command(
    dataset: str = typer.Argument(help="A data set: pascal5i, coco20i; the others by hand, as it then says."),
    to: Path = typer.Option(Path("data"), "--out", help="Folder to put the data set into; made if it is not there."),
    parts: list[str] | None = typer.Option(None, "--parts", help="Archives, as in `--parts val2017,annotations2017`."),
    url: str | None = typer.Option(None, "--url", help="A mirror: a file's address, or a folder's, ending in '/'."),
    digest: str | None = typer.Option(None, "--hash", help="What the file must hash to: sha256:HEX or md5:HEX."),
    keep: bool = typer.Option(False, "--keep", help="Keep the archives after unpacking."),
    force: bool = typer.Option(False, "--force", help="Fetch again what is noted as done."),
    as_json: Json = False,
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
    episode: int | None = typer.Option(None, "--episode", help="The episode to draw. [0]"),
    out: Path = typer.Option(Path("episode.png"), "--out", help="The PNG to write."),
    fold: int | None = typer.Option(None, "--folds", help="The fold. [0; with --sheet all of them]"),
    shots: int | None = typer.Option(None, "--shots", help="Supports a way. [all; with --sheet 1]"),
    way: int | None = typer.Option(None, "--way", help="Only this way, counted from 1."),
    annotation: str | None = typer.Option(None, "--annotation", help="Only this weak annotation: box, scribble, ..."),
    sheet: int | None = typer.Option(None, "--sheet", min=1, help="So many episodes, on one sheet, instead of one."),
    force: Force = False,
) -> None:
    """Draw an episode: support, mask, annotation, query and truth side by side; or a sheet of many."""
    from fssbench.banks.bank import open_bank
    from fssbench.errors import UsageError
    from fssbench.files import atomic_path
    from fssbench.show import contact_sheet, episode_picture, spread

    if episode is not None and sheet is not None:
        raise UsageError("expected either --episode or --sheet, found both.")
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


@app.command("adopt")
def adopt_command(
    folder: Path = typer.Argument(help="A folder of images and annotations, as your tool exported it."),
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="The description to write. [./NAME.toml]"),
    name: str | None = typer.Option(None, "--name", help="The data set's name. [the folder's]"),
    force: Force = False,
) -> None:
    """Look at a folder of your own, say what it seems to be and why, and describe it in a dataset.toml."""
    from fssbench.datasets.own.adopt import adopt
    from fssbench.datasets.own.config import named_after
    from fssbench.errors import UsageError
    from fssbench.files import atomic_write_text

    title = name or named_after(folder)
    path = out or Path(f"{title}.toml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already. Name another file by --out, or add --force to replace it.")
    found = adopt(folder, path, title)
    for reason in found.reasons:
        typer.echo(f"- {reason}")
    atomic_write_text(path, found.text)
    typer.echo(f"wrote {path} (format = {found.format}); read it, and go on by")
    typer.echo(f"  fssbench doctor {quoted(path)} --sheet {quoted(path.with_suffix('.png'))}")


@app.command("doctor")
def doctor_command(
    dataset: str = typer.Argument(
        autocompletion=datasets_like, help="A data set: pascal5i, coco20i, ..., module:Class, or your dataset.toml."
    ),
    root: Root = None,
    lists: str | None = typer.Option(None, "--lists", help="Image list, as for generate-episodes."),
    split: str | None = typer.Option(None, "--split", help="Class split, as for generate-episodes."),
    quick: bool = typer.Option(False, "--quick", help="Read headers of images only: overlooks truncated ones."),
    sheet: Path | None = typer.Option(None, "--sheet", metavar="PNG", help="Draw eight images with their masks."),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Look at all images and masks, say what will be scored and what is wrong; exit status 1 if anything is."""
    from dataclasses import asdict

    from fssbench.datasets.registry import open_dataset
    from fssbench.doctor import FEWEST, examine
    from fssbench.doctor import sheet as contact_sheet
    from fssbench.errors import UsageError
    from fssbench.files import atomic_path

    if sheet is not None and sheet.exists() and not force:
        raise UsageError(f"{sheet} exists already. Name another file by --sheet, or add --force to replace it.")
    health = examine(dataset, lambda: open_dataset(dataset, root, pool=lists, split=split), track, quick=quick)
    if sheet is not None and health.images and health.healthy:
        picture = contact_sheet(open_dataset(dataset, root, pool=lists, split=split))
        with atomic_path(sheet) as temporary:
            picture.save(temporary, "PNG")
    if as_json:
        print_json({**asdict(health), "healthy": health.healthy})
    else:
        _tell(health)
        if sheet is not None and health.healthy:
            typer.echo(f"wrote {sheet}: look whether the masks lie where they should")
        if health.healthy:
            options = {"--root": root, "--lists": lists, "--split": split}
            given = "".join(f" {key} {quoted(value)}" for key, value in options.items() if value is not None)
            fewest = min(health.class_images.values(), default=0)
            if fewest < FEWEST and health.enough_area:
                given += f" --min-area {health.enough_area}"
            elif fewest < FEWEST:
                given += f" --shots {fewest - 1}" if fewest > 1 else " --shots 1 --skip-short-classes"
            typer.echo(f"go on: fssbench generate-episodes {quoted(dataset)}{given}")
    if not health.healthy:
        raise typer.Exit(1)


def quoted(value: object) -> str:
    """A word as a shell takes it."""
    import shlex

    return shlex.quote(str(value))


def _tell(health: Health) -> None:
    """A data set's health in words, one line a cause."""
    from fssbench.datasets.reading import counted

    most = 20
    if health.images:
        typer.echo(f"{health.dataset} {health.pool}: {health.images} images")
        for name, count in list(health.class_images.items())[: 2 * most]:
            below = health.shown[name] - count
            less = f", and {below} with less than {health.min_area} px" if below else ""
            typer.echo(f"  {name}: {count} images{less}; it covers {100 * health.share[name]:.1f} % of an image")
        if len(health.class_images) > 2 * most:
            typer.echo(f"  ... and {len(health.class_images) - 2 * most} classes more (--json lists all)")
    for note in health.notes:
        typer.echo(f"note: {note}")
    for finding in health.findings[:most]:
        typer.echo(f"wrong: {finding.line()}")
    if len(health.findings) > most:
        typer.echo(f"... and {len(health.findings) - most} more (--json lists all)")
    typer.echo("nothing is wrong" if health.healthy else f"{counted(len(health.findings), 'thing')} wrong")
