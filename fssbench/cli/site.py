"""Commands that judge and show results: `audit`, `leaderboard`, `plot`, `gallery`, `sensitivity`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssbench.cli.app import App, app, messages, print_json, track
from fssbench.cli.grammar import Group
from fssbench.cli.options import Force, Json
from fssbench.cli.results import Chosen, Ordered, Printing, Ranking, empty_folder, where_possible

if TYPE_CHECKING:
    from fssbench.reports.entries.results import Result

leaderboard = App(cls=Group, help="The static site of results.", no_args_is_help=True)
app.add_typer(leaderboard, name="leaderboard")

OUT = typer.Option(..., "--out", help="Folder to write into.")
BANK = typer.Option(None, "--bank", help="An episode bank, or a folder of banks; may be given several times.")
COUNT = typer.Option(4, "--count", min=1, max=50, help="Episodes of each kind.")


@leaderboard.command("build")
def leaderboard_build(
    chosen: Ranking,
    out: Path = OUT,
    bank: list[Path] | None = BANK,
    intervals: bool = typer.Option(
        True, "--intervals/--no-intervals", help="Intervals and ranks; without them a large site is built sooner."
    ),
    workers: int | None = typer.Option(None, "--workers", help="Processes that measure results (default: one a core)."),
    force: Force = False,
) -> None:
    """Build the leaderboard of RESULTS: plain files, to be opened from disk or put on any web server.

    With --bank, records that hold their masks (--save-predictions) get pictures of their episodes.
    """
    # The processes share the cores by themselves; before NumPy loads, as its threads would wait by spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fssbench.audit.bank import find_banks
    from fssbench.reports.board.build import build_site
    from fssbench.reports.pictures.gallery import site_gallery

    found = chosen.read()
    gallery = site_gallery(find_banks(bank)) if bank else None
    pages = build_site(
        found, out, force=force, gallery=gallery, with_intervals=intervals, track=track, workers=workers,
        sort=chosen.sort,
    )  # fmt: skip
    messages.print(f"{len(found)} results, {pages} pages: open {out / 'index.html'}", markup=False)


@app.command("audit")
def audit_command(
    results: Path = typer.Argument(Path("results"), help="A record, or a folder of records."),
    bank: list[Path] | None = typer.Option(
        None, "--bank", help="Banks that all records must be from, or folders of banks. [those in episodes/, if any]"
    ),
    as_json: Json = False,
) -> None:
    """Judge records by their own counts, by each other, and by the banks at hand; exit status 1 for any finding."""
    from dataclasses import asdict

    from fssbench.audit.bank import find_banks
    from fssbench.audit.judge import audit
    from fssbench.errors import RecordError

    if not results.is_dir():
        raise RecordError(f"expected a folder of records at {results}, found none. Name it as the first argument.")
    usual = [Path("episodes")] if Path("episodes").is_dir() else []
    judged = audit(results, find_banks(bank or usual), only_these=bool(bank))
    if not judged.records:
        raise RecordError(f"no record, nor a part of one, below {results}. Name another folder.")
    if as_json:
        print_json(asdict(judged))
    else:
        sys.stdout.writelines(f"{finding}\n" for finding in judged.findings)
    for fingerprint in judged.unjudged:
        messages.print(f"bank {fingerprint[:12]} was not at hand (--bank): its episodes were not checked")
    messages.print(f"{judged.records} records, {len(judged.findings)} findings")
    if judged.findings:
        raise typer.Exit(1)


@app.command("plot")
def plot(
    chosen: Ranking,
    out: Path = OUT,
    force: Force = False,
) -> None:
    """Draw RESULTS: by class, by object size, by episode, by shots; PNG and SVG."""
    from fssbench.reports.entries.rankings import collect
    from fssbench.reports.pictures.plots import draw_all

    found = chosen.read()
    empty_folder(out, force)
    for path in draw_all(collect(found, track=track, sort=chosen.sort), out, track):
        sys.stdout.write(f"{path}\n")


@app.command("gallery")
def gallery(
    chosen: Chosen,
    out: Path = OUT,
    bank: list[Path] = typer.Option(..., "--bank", help="The bank that the runs used, or a folder of banks."),
    count: int = COUNT,
    force: Force = False,
) -> None:
    """Show the best, the median and the worst episodes of RESULTS: supports, truth and prediction."""
    from fssbench.audit.bank import find_banks
    from fssbench.reports.pictures.gallery import write_gallery

    found = chosen.read()
    empty_folder(out, force)
    banks = find_banks(bank)

    def draw(result: Result) -> None:
        for path in write_gallery(result, banks, out, count):
            sys.stdout.write(f"{path}\n")

    where_possible(track(found, "drawing"), draw)  # one without masks must not keep the others from being drawn


@app.command("sensitivity")
def sensitivity_command(
    chosen: Ordered,
    bank: list[Path] | None = BANK,
    out: Path | None = typer.Option(None, "--out", help="With --bank: folder for pictures of best and worst supports."),
    count: int = COUNT,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say how much the choice of the support matters, by method and class, on banks with several supports a query."""
    from fssbench.audit.bank import find_banks
    from fssbench.errors import UsageError
    from fssbench.reports.pictures.supports import write_extremes
    from fssbench.reports.studies.sensitivity import has_several_supports, sensitivity, values
    from fssbench.reports.tables.sensitivity import sensitivity_tables

    if (out is None) != (not bank):
        raise UsageError("expected --out and --bank together: pictures need the bank's images and a place to go.")
    results_found = chosen.read()
    several = [result for result in track(results_found, "reading") if has_several_supports(result)]
    if len(several) < len(results_found) and several:
        left = len(results_found) - len(several)
        messages.print(f"left out: {left} results whose bank draws one support a query")
    found = [sensitivity(result) for result in several or results_found]
    Printing(as_json=as_json).show(sensitivity_tables(found), values(found))
    if out is not None:
        empty_folder(out, force)
        banks = find_banks(bank or [])
        for one in found:
            messages.print(f"{write_extremes(one.result, banks, out, count)}", markup=False)
