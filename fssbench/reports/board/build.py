"""`fssbench leaderboard build`: a site that is whole or absent, and that replaces nothing but an older site."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.errors import UsageError
from fssbench.files import sync_folder
from fssbench.progress import Progress, quiet
from fssbench.reports.board.pages import write_pages
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import Result

if TYPE_CHECKING:
    from fssbench.reports.pictures.gallery import DrawGallery

MARKER = ".fssbench-site.json"  # lists every file of the site, so that a file somebody added is noticed


def build_site(
    results: Sequence[Result],
    out: Path,
    *,
    force: bool = False,
    gallery: DrawGallery | None = None,
    with_intervals: bool = True,
    track: Progress = quiet,
    workers: int | None = 1,
    sort: str = "mean",
) -> int:
    """Build the site of `results` at `out`, measured by so many processes, and return its number of pages.

    `sort` is the order of each board, see `collect`.

    It is built beside `out` and takes its place at the end; after an error `out` is what it was before. Raises
    `UsageError` if `out` is anything but a site that was built here and left as it was (`force` overrides), or a
    folder that holds the records or the working directory (which nothing overrides).
    """
    out = out.absolute()
    check_replaceable(out, [source.path for result in results for source in (*result.sources, *result.repeats)], force)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        site = work / "new"
        site.mkdir()
        write_pages(site, collect(results, with_intervals, track, workers, sort), gallery)
        files = _files(site)
        (site / MARKER).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(work / "old")
        try:
            site.rename(out)
        except OSError:
            if (work / "old").exists():
                (work / "old").rename(out)
            raise
        sync_folder(out.parent)
    finally:
        shutil.rmtree(work)
    return sum(name.endswith(".html") for name in files)


def check_replaceable(out: Path, inside: Sequence[Path], force: bool) -> None:
    """Raise `UsageError` unless a site may be put at `out`."""
    if not out.exists():
        return
    if not out.is_dir() or out.is_symlink():
        raise UsageError(f"--out {out}: expected a folder, found something else. Name a folder for the site.")
    for folder in (Path.cwd(), Path.home(), *inside):
        if folder.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"--out {out} holds {folder}, which would be lost. Name another folder for the site.")
    if force or not any(out.iterdir()):
        return
    marker = out / MARKER
    if not marker.is_file():
        raise UsageError(
            f"--out {out} is not empty, and not a site that fssbench built (no {MARKER}). "
            "Name another folder, or replace this one with --force."
        )
    added = sorted(set(_files(out)) - set(_listed(marker)))
    if added:
        more = f" and {len(added) - 1} more" if len(added) > 1 else ""
        raise UsageError(
            f"--out {out} holds files that fssbench did not put there: {added[0]}{more}. "
            "Move them away, or replace the folder with --force."
        )


def _files(site: Path) -> list[str]:
    return sorted(
        path.relative_to(site).as_posix() for path in site.rglob("*") if not path.is_dir() and path.name != MARKER
    )


def _listed(marker: Path) -> list[str]:
    try:
        names = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{marker} is damaged: expected a list of files. Replace the folder with --force.") from error
    return [str(name) for name in names] if isinstance(names, list) else []
