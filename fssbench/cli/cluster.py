"""The options of commands that work on a cluster, and sizes in bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from fssbench.errors import UsageError

if TYPE_CHECKING:
    from fssbench.cluster.connect import Ask

CLUSTER = typer.Option(
    None,
    "--cluster",
    metavar="local|HOST:PORT|ray://HOST:PORT",
    help="Do the work on Ray: started here, or a cluster's address (auto: this machine's).",
)
GPUS = typer.Option(
    None, "--gpus-per-task", min=0, help="Of each task on the cluster; 0.5: two share one. [1 where there are any]"
)
CPUS = typer.Option(1, "--cpus-per-task", min=0, help="Of each task on the cluster, and threads of its device cpu.")
MEMORY = typer.Option(None, "--memory-per-task", metavar="SIZE", help="Of each task on the cluster.")

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bytes(text: str) -> int:
    """Bytes from '4GB', '512M' or '1e9'. Raises `UsageError`.

    >>> parse_bytes("1.5GB")
    1610612736
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if not found:
        raise UsageError(f"expected a size such as 4GB or 500M, found {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def asked_of(cluster: str, gpus: float | None, cpus: float, memory: str | None, device: str) -> Ask:
    """What these options ask for."""
    from fssbench.cluster.connect import Ask

    return Ask(cluster, gpus, cpus, parse_bytes(memory) if memory else None, device=device)
