"""Checkpoints: ours (safetensors with a card) and the authors' (pickles, read without running code)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fssbench.backbones import Pretrained
from fssbench.engine.hashes import encoder_sha256
from fssbench.errors import CheckpointError, FssbenchError, MethodError
from fssbench.files import atomic_path, sha256_file
from fssbench.method import Method
from fssbench.names import plain_name
from fssbench.official import load_converted
from fssbench.regime import Regime
from fssbench.registry import BUILT_IN, find_method
from fssbench.settings import parse_settings
from fssbench.state_dicts import read_state_dict


class Card(BaseModel):
    """What a checkpoint is, in its own metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    method: str  # as the registry knows it, or `module:Class`
    backbone: str
    config: dict[str, Any]
    regime: Regime  # what it was trained on, for how long, what it was selected on
    source: str  # "the authors' FILE", a web address, or "fssbench train"
    sha256: str | None = None  # of the authors' file; None if trained here
    encoder_sha256: str | None = None  # of a frozen encoder with ImageNet weights, which the file then leaves out
    notes: tuple[str, ...] = ()  # what was done to the file's names and entries when it was imported

    @property
    def fold(self) -> int | None:
        """The fold whose classes it has not seen; None: trained for no fold."""
        return self.regime.fold


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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was found: its file, what its card says, and the SHA-256 of the file."""

    path: Path
    card: Card
    sha256: str

    def weights(self) -> dict[str, Tensor]:
        """What the file holds, on the CPU. Raises `CheckpointError` if it is no longer the file that was found."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise CheckpointError(
                f"{self.path} has changed since this began: expected SHA-256 {self.sha256[:12]}, found "
                f"{found[:12] if content else 'no file'}. Begin again."
            )
        return safetensors.torch.load(content)


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint without its weights. Raises `CheckpointError` if it is missing or not ours."""
    return Checkpoint(path, read_card(path), sha256_file(path))


def load_weights(method: Method, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a checkpoint's weights into a method, every key and shape checked. Raises `CheckpointError`."""
    try:
        load_converted(method, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def restore(checkpoint: Checkpoint, settings: tuple[str, ...] = ()) -> Method:
    """The method of a checkpoint as its card configures it, with changes as `field=value`, in eval mode."""
    path, card, state = checkpoint.path, checkpoint.card, checkpoint.weights()
    cls = find_method(card.method)
    method = cls(parse_settings(cls.Config, settings, base=card.config))
    if method.config.backbone != card.backbone:
        raise CheckpointError(
            f"{path} was trained on the backbone {card.backbone}, asked for is {method.config.backbone}: "
            "leave --backbone out, or name a checkpoint of that one."
        )
    if card.encoder_sha256 is not None:
        state |= _imagenet_encoder(method, card.encoder_sha256, path)
    load_weights(method, state, path)
    return method.eval()


def load_imagenet(method: Method) -> None:
    """ImageNet weights for every backbone of a method. Raises `CheckpointError` if they cannot be had."""
    backbones = [module for module in method.modules() if isinstance(module, Pretrained)]
    if not backbones:
        raise MethodError(f"{method.info.title} has no backbone that takes ImageNet weights; say --weights random.")
    for backbone in backbones:
        backbone.load_imagenet()


def _imagenet_encoder(method: Method, sha256: str, path: Path) -> dict[str, Tensor]:
    """The frozen encoder that a checkpoint leaves out. Raises `CheckpointError` if ImageNet's weights are others."""
    load_imagenet(method)
    found = encoder_sha256(method)
    if found != sha256:
        raise CheckpointError(
            f"{path} leaves out its frozen encoder: expected ImageNet weights with SHA-256 {sha256[:12]}, found "
            f"{found[:12]}. Install the weights it was trained with, or train with --whole."
        )
    return {name: value for name, value in method.state_dict().items() if name.startswith("encoder.")}


def import_official(
    name: str,
    path: Path,
    regime: Regime,
    *,
    key: str | None = None,
    settings: tuple[str, ...] = (),
    source: str = "",
) -> tuple[dict[str, Tensor], Card]:
    """The authors' checkpoint in our names, with its card. Raises `CheckpointError` unless every key has its place."""
    found = read_state_dict(path, key)
    cls = find_method(name)
    method = cls(parse_settings(cls.Config, (*cls.official_settings(found.tensors), *settings)))
    try:
        method.load_official(found.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error} `fssbench checkpoint {path}` shows what may fit.") from None
    converted = method.state_dict()
    broken = [key for key, value in converted.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite weights, first in {broken[0]}: the file is of no use")
    card = Card(
        method=plain_name(name),
        backbone=method.config.backbone,
        config=method.config.model_dump(mode="json"),
        regime=regime,
        source=source or f"the authors' {path.name}",
        sha256=sha256_file(path),
        notes=tuple(found.notes),
    )
    return converted, card


def fitting(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """The built-in methods and backbones whose `load_official` takes exactly these names and shapes, and nothing less.

    Only names and shapes are looked at: methods of one architecture (with and without training) cannot be told apart.
    """
    shapes = {name: value.to("meta") for name, value in tensors.items()}
    fits = []
    for name in BUILT_IN:
        cls = find_method(name)
        for backbone in cls.info.backbones:
            try:
                with torch.device("meta"):
                    method = cls(parse_settings(cls.Config, (f"backbone={backbone}", *cls.official_settings(shapes))))
                    method.load_official(shapes)
            except (FssbenchError, KeyError, IndexError, RuntimeError, NotImplementedError):
                continue  # converters are written for the right file and may fail in any way on another
            fits.append((name, backbone))
    return fits
