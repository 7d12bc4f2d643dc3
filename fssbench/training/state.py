"""What a run needs to go on as if it had never stopped: weights, optimiser, and where it was. One file, atomic.

Nothing random is in it: every step seeds its own generator.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fssbench.errors import CheckpointError
from fssbench.files import atomic_path
from fssbench.method import Method


@dataclass(frozen=True)
class Position:
    """Where a run is."""

    identity: str  # what is being trained, hashed: another command does not go on from here
    stage: int = 0
    step: int = 0  # of the stage: this one is next
    best: float | None = None  # mIoU on the validation episodes
    best_step: int | None = None  # over all stages

    def but(self, **changes: Any) -> Position:
        """With other values."""
        return replace(self, **changes)


def save_state(path: Path, method: Method, optimiser: torch.optim.Optimizer, position: Position) -> None:
    """Write the state, whole or not at all."""
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in method.state_dict().items()}
    plain: dict[str, Any] = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                plain[f"{index}.{name}"] = value
    metadata = {"position": json.dumps(asdict(position)), "plain": json.dumps(plain)}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(_unshared(tensors), temporary, metadata)


def read_position(path: Path) -> Position:
    """Where the run was. Raises `CheckpointError` for a file that is no state."""
    try:
        with safe_open(path, framework="pt") as file:
            return Position(**json.loads((file.metadata() or {})["position"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected the state of a training run, found something else ({error}). Say --force to start anew."
        ) from error


def load_model(path: Path, method: Method) -> None:
    """The weights of a state."""
    tensors = safetensors.torch.load_file(path)
    prefix = "model."
    method.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})


def load_optimiser(path: Path, optimiser: torch.optim.Optimizer) -> None:
    """The optimiser's moments of a state."""
    with safe_open(path, framework="pt") as file:
        plain = json.loads((file.metadata() or {}).get("plain", "{}"))
        state: dict[int, dict[str, Any]] = {}
        for key in file.keys():  # noqa: SIM118 (a safetensors handle is no dict)
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = file.get_tensor(key)
    for key, value in plain.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    made = {}
    for name, value in tensors.items():
        made[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return made
