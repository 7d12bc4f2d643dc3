"""Tables in pages of results are what a command prints: `<!-- [[[cog table("report results/lite") ]]] -->`.

`make pages` renews them by cog (https://cog.readthedocs.io); a test holds them to what the commands print.
"""

from __future__ import annotations

import contextlib
import io

import cog

from fssbench.cli import main


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
