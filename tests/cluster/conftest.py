"""One Ray cluster of two nodes for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_cluster

from fssbench.cluster.connect import Ask
from fssbench.cluster.run import run_on_cluster
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.job import Outcome
from fssbench.engine.plan import RunRequest


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with toy_cluster.two_nodes(tmp_path_factory.mktemp("nodes")) as cluster:
        import ray

        ray.init(cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
        ray.shutdown()


@pytest.fixture
def on_cluster(nodes: Any, bank: Path, tmp_path: Path, listener: Any) -> Any:
    def go(*methods: str, shots: tuple[int, ...] = (1, 5), bank: Path = bank, **more: Any) -> tuple[list[Outcome], Any]:
        specs = [MethodSpec(f"toy_methods:{name}", weights="random") for name in methods]
        ask = Ask("auto", retries=more.pop("retries", 3))
        settings = Settings(device=torch.device("cpu"), head_batch=more.pop("head_batch", 8))
        request = RunRequest(specs, bank, settings, shots, out=tmp_path / "cluster", **more)
        return run_on_cluster(request, ask, listener)

    return go
