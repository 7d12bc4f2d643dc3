"""Options that many commands have, said the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def methods_like(incomplete: str) -> list[str]:
    """Names of methods that a shell may go on with."""
    from fssbench.registry import method_names

    return [name for name in method_names() if name.startswith(incomplete)]


def datasets_like(incomplete: str) -> list[str]:
    """The same of data sets."""
    from fssbench.datasets.registry import dataset_names

    return [name for name in dataset_names() if name.startswith(incomplete)]


Root = Annotated[Path | None, typer.Option("--root", help="Where the data lies; else $FSSBENCH_DATA, else ./data.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
