"""A Ray cluster of two nodes of one core each on this machine, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STORE = 100 << 20
PLACES = (Path(__file__).parent, Path(__file__).parents[2])  # what a node imports
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0", "RAY_enable_open_telemetry": "0",
    "RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4",
}  # fmt: skip


@contextmanager
def two_nodes(temporary: Path) -> Iterator[Any]:
    """`ray.cluster_utils.Cluster` with nodes `first` (the head) and `second`; each has its own TMPDIR.

    Toy methods are found there as here.
    """
    os.environ.update(QUIET)
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, PLACES), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.first = add_node(cluster, temporary / "first", include_dashboard=False)
        cluster.second = add_node(cluster, temporary / "second")
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, temporary: Path, **more: Any) -> Any:
    """A node of one core whose temporary files lie in a folder of its own."""
    temporary.mkdir(exist_ok=True)
    env = {"TMPDIR": str(temporary)}
    return cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE, env_vars=env, **more)
