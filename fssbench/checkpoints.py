"""Checkpoints: ours (safetensors with a card) and the authors' (pickles, read without running code)."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fssbench.errors import CheckpointError
from fssbench.files import atomic_path, sha256_file
from fssbench.method import Method, load_converted
from fssbench.registry import find_method
from fssbench.settings import parse_settings

_NESTED = ("state_dict", "model_state_dict", "model", "net")  # where training scripts keep the weights


class Card(BaseModel):
    """What a checkpoint is, in its own metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    method: str  # as the registry knows it
    backbone: str
    config: dict[str, Any]
    fold: int | None  # None: trained on no fold's complement, fit for all
    regime: dict[str, Any] = {}  # what it was trained on, for how long, what it was selected on
    source: str  # "the authors' FILE", a web address, or "fssbench train"
    sha256: str | None = None  # of the authors' file; None if trained here


def save_checkpoint(path: Path, state: Mapping[str, Tensor], card: Card, *, force: bool = False) -> None:
    """Write a checkpoint, whole or not at all. Equal weights and cards give equal bytes.

    Raises `CheckpointError` if the file exists and not `force`.
    """
    if path.exists() and not force:
        raise CheckpointError(f"{path} exists already; say --force to overwrite it, or choose another --out")
    metadata = {"fssbench": json.dumps(card.model_dump(mode="json"), sort_keys=True)}
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)


def read_card(path: Path) -> Card:
    """The card of a checkpoint, without its weights. Raises `CheckpointError` if it is missing or not ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise CheckpointError(f"no checkpoint at {path}: expected a file of `fssbench import-checkpoint`") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of fssbench, or is damaged ({error}). An authors' .pth or .pt file goes "
            "through `fssbench import-checkpoint` first."
        ) from error
    if "fssbench" not in metadata:
        raise CheckpointError(f"{path} has no card: expected a file of `fssbench import-checkpoint` or of training")
    try:
        return Card.model_validate_json(metadata["fssbench"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"the card of {path} cannot be read: {where}: {first['msg']}. Import it again."
        ) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Weights (on the CPU) and card. Raises `CheckpointError`."""
    card = read_card(path)
    return safetensors.torch.load_file(path), card


def load_weights(method: Method, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a checkpoint's weights into a method, every key and shape checked. Raises `CheckpointError`."""
    try:
        load_converted(method, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def restore(path: Path, settings: tuple[str, ...] = ()) -> tuple[Method, Card]:
    """The method of a checkpoint as its card configures it, with changes as `field=value`, in eval mode."""
    state, card = load_checkpoint(path)
    cls = find_method(card.method)
    method = cls(parse_settings(cls.Config, settings, base=card.config))
    load_weights(method, state, path)
    return method.eval(), card


def read_official(path: Path) -> dict[str, Tensor]:
    """The state dict in an authors' .pth or .pt file, found also below `state_dict`, `model` and the like.

    Nothing in the file is executed. Raises `CheckpointError` if the file is missing, damaged, needs code to be read,
    or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: expected the file that the method's authors published")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}): expected a file written by torch.save. "
            "Was the download cut off, or a web page saved in its place?"
        ) from error
    return _state_dict(path, content)


def import_official(
    name: str,
    path: Path,
    fold: int | None,
    *,
    settings: tuple[str, ...] = (),
    source: str = "",
    regime: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Tensor], Card]:
    """The authors' checkpoint in our names, with its card. Raises `CheckpointError` unless every key has its place."""
    state = read_official(path)
    cls = find_method(name)
    method = cls(parse_settings(cls.Config, settings))
    method.load_official(state)
    converted = method.state_dict()
    broken = [key for key, value in converted.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite weights, first in {broken[0]}: the file is of no use")
    card = Card(
        method=name,
        backbone=method.config.backbone,
        config=method.config.model_dump(mode="json"),
        fold=fold,
        regime=dict(regime or {}),
        source=source or f"the authors' {path.name}",
        sha256=sha256_file(path),
    )
    return converted, card


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            found = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
            raise CheckpointError(
                f"{path} holds no state dict: expected names with tensors, alone or below {', '.join(_NESTED)}; "
                f"found {found}"
            )
        content = inner
    raise CheckpointError(f"{path} holds no state dict: expected names with tensors, found a {type(content).__name__}")


def _refusal(path: Path, reason: str) -> str:
    needed = re.search(r"GLOBAL (\S+)", reason)
    if needed is None:
        return (
            f"{path} cannot be read: expected a file written by torch.save, found something else or a damaged one. "
            "Was the download cut off, or a web page saved in its place?"
        )
    return (
        f"{path} needs {needed[1]} to be read, and fssbench runs no code from a file: expected tensors only. "
        "If you trust its authors, keep only the weights, where their code is installed: "
        "`state = torch.load(FILE, weights_only=False)`, then `torch.save(state['state_dict'], NEW)`."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
