"""Tables in pages of results are what a command prints: `<!-- [[[cog table("report results/lite") ]]] -->`.

`make pages` renews them by cog (https://cog.readthedocs.io); a test holds them to what the commands print.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cog

from fssbench.cli import main
from fssbench.records import find_records, read_record
from fssbench.reports.pictures.plots import size_curve


def table(words: str, *, title: bool = False) -> None:
    """What `fssbench WORDS` prints to stdout, without the heading of its table unless asked for."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main(words.split())
        except SystemExit as ending:
            if ending.code:
                raise RuntimeError(f"fssbench {words}: exit status {ending.code}") from ending
    text = out.getvalue().strip()
    cog.outl("\n" + (text if title else text.split("\n", 1)[1].strip()) + "\n")


def sizes(folder: str, methods: str, bins: int = 5) -> None:
    """Pooled IoU of trained methods by the object's share of its image, in bins of equal numbers of 1-shot episodes."""
    curves = {}
    for record in map(read_record, find_records(Path(folder))):
        run, name = record.run, record.run.method.name
        trained = all(entry.kind == "checkpoint" for entry in run.weights.values())
        if run.shot == 1 and run.seed == 0 and trained and name in methods.split():
            curves[name] = size_curve(record.episodes, bins)
    shares = next(iter(curves.values())).size
    cog.outl(
        "\n| trained, 1 shot; object's share of the image, about | "
        + " | ".join(f"{share:.1%}" for share in shares)
        + " |"
    )
    cog.outl("|" + " --- |" * (len(shares) + 1))
    for name in methods.split():
        cog.outl(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in curves[name].value) + " |")
    cog.outl("")
