"""What a record says about where it was made."""

from __future__ import annotations

import platform
import shlex
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fssbench import __version__
from fssbench.engine.devices import describe
from fssbench.records import Environment

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "h5py")


def environment(device: torch.device, precision: str, options: dict[str, object]) -> Environment:
    """Device, versions, git revision and command line of this process."""
    revision, dirty = git_state()
    return Environment(
        device=describe(device),
        precision=precision,
        options=options,
        versions={"fssbench": __version__, "python": platform.python_version(), **_versions()},
        git_revision=revision,
        git_dirty=dirty,
        host=socket.gethostname(),
        command=command_line(),
    )


def command_line() -> str:
    """The command that started this process, as one would type it."""
    return shlex.join(["fssbench", *sys.argv[1:]])


def git_state() -> tuple[str | None, bool | None]:
    """Revision of the checkout that fssbench runs from and whether it has changes; (None, None) outside of one."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None, None
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root, capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None, None
    return revision, bool(status.strip())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
