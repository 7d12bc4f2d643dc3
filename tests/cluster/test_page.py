"""What docs/cluster.md prints is what Ray and a shell take."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from repository import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def test_the_cloud_file_is_one_that_ray_takes() -> None:
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(_block("yaml")))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_the_job_file_runs_the_sweep_on_every_node_of_its_allocation(tmp_path: Path) -> None:
    for name, body in {"scontrol": "echo node1\necho node2", "srun": 'echo "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    job = _block("bash").replace("source .venv/bin/activate", "")
    allocation = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "64"}
    done = subprocess.run(
        ["bash", "-euc", job], env={"PATH": f"{tmp_path}:/usr/bin:/bin", **allocation},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ray symmetric-run --address node1:6379 --min-nodes 2 --num-cpus 64" in done.stdout
