"""A Ray cluster of two nodes of one core each on this machine, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from repository import PLUGINS, ROOT

from fssbench.engine.job import Outcome
from fssbench.records import read_run

STORE = 100 << 20
PLACES = (PLUGINS, ROOT)  # what a node imports
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0", "RAY_enable_open_telemetry": "0",
    "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "8",
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
    cluster.temporary = temporary
    try:
        cluster.first = add_node(cluster, temporary / "first", include_dashboard=False)
        cluster.second = add_node(cluster, temporary / "second")
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, temporary: Path, env: Mapping[str, str] = {}, **more: Any) -> Any:
    """A node of one core whose temporary files lie in a folder of its own."""
    temporary.mkdir(exist_ok=True)
    asked = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, **more}
    for last in (False, False, True):
        before = set(psutil.Process().children(recursive=True))
        try:
            return cluster.add_node(**asked, env_vars={"TMPDIR": str(temporary), "TOY_PAUSE": "0.3", **env})
        except Exception as error:
            if last or "timed out during startup" not in str(error):
                raise
            for process in set(psutil.Process().children(recursive=True)) - before:
                process.kill()
    raise AssertionError


def equal_records(ours: list[Outcome], theirs: list[Outcome]) -> None:
    """Byte for byte, apart from what is a fact of time and place."""
    assert [o.state for o in ours] == [o.state for o in theirs] == ["finished"] * len(ours)
    for one, other in zip(ours, theirs, strict=True):
        rows = [(o.folder / "episodes.csv.gz").read_bytes() for o in (one, other)]
        assert rows[0] == rows[1]
        runs = [read_run(o.folder).model_dump() for o in (one, other)]
        for run in runs:
            del run["created"], run["seconds"]
            for fact in ("host", "command", "git_revision", "git_dirty"):  # a commit may come between
                del run["environment"][fact]
        assert runs[0] == runs[1]


def task_processes(name: str) -> list[psutil.Process]:
    """The processes of this cluster that carry out tasks whose title begins so."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if " ".join(process.cmdline()).startswith(name)]
