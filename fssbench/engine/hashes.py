"""Hashes of what counts depend on: parameters and source code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fssbench.method import Method


def parameters_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encoder_sha256(method: Method) -> str:
    """SHA-256 over the encoder's parameters: equal encoders with equal hashes compute the same features."""
    return parameters_sha256(method.encoder.state_dict())


def code_sha256(methods: Sequence[Method]) -> str:
    """SHA-256 over the source that counts depend on: engine, contract, backbones, and the methods' own packages."""
    here = Path(__file__).resolve().parent.parent
    files = {
        *here.glob("engine/*.py"),
        here / "method.py",
        *here.glob("backbones/*.py"),
        here / "datasets" / "decode.py",
    }
    files |= set((here.parent / "methods").glob("*.py"))
    for method in methods:
        files.add(Path(inspect.getfile(type(method))))
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()
