"""The Ray cluster that a command works on: started here, or connected to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fssbench.errors import UsageError

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
STORE_BYTES = 256 << 20  # of a cluster that is started here: only rows and checkpoints pass through it


@dataclass(frozen=True)
class Ask:
    """Which cluster, and what a task asks of it."""

    address: str  # "local"; "HOST:PORT" or "auto" from one of the cluster's machines; "ray://HOST:PORT" from another
    gpus: float | None = None  # None: 1 where any node has one
    cpus: float = 1
    memory: int | None = None  # bytes
    retries: int = 3  # after a worker or node was lost and nothing had come back meanwhile
    device: str = "auto"  # on the nodes


@contextmanager
def connected(ask: Ask, say: Callable[[str], None]) -> Iterator[Any]:
    """Ray's module, connected; left again at the end, and shut down where it was started here.

    A process that is connected already stays so. Raises `UsageError` where Ray lacks or cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--cluster {ask.address}: Ray is not installed here. Say: pip install 'fssbench[cluster]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {} if ask.address.startswith("ray://") else {"log_to_driver": False}
    if ask.address == "local":
        own["object_store_memory"] = STORE_BYTES
    try:
        context = ray.init(ask.address, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises plain ones too
        raise UsageError(
            f"--cluster {ask.address}: expected a Ray cluster that answers there, found none ({error}). Start one by "
            "`ray start --head`, or say --cluster local; one with a token wants RAY_AUTH_MODE=token here too."
        ) from error
    try:
        address = getattr(context, "dashboard_url", None)
        say(f"Ray's dashboard: http://{address}" if address else "Ray runs without its dashboard")
        yield ray
    finally:
        ray.shutdown()
