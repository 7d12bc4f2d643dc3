"""A method with its weights: by name, options and `--weights`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fssbench.backbones import Backbone, Pretrained
from fssbench.checkpoints import read_card, restore
from fssbench.errors import CheckpointError, MethodError
from fssbench.files import sha256_file
from fssbench.method import Method
from fssbench.records import WeightsEntry
from fssbench.registry import find_method
from fssbench.settings import parse_settings


@dataclass(frozen=True)
class MethodSpec:
    """What the command line says about a method.

    `weights` is `imagenet`, `random`, or the path of a checkpoint of `fssbench import-checkpoint`, in which `{fold}`
    stands for the fold; None is `imagenet` for methods that give sensible masks untrained, an error for others.
    """

    name: str
    settings: tuple[str, ...] = ()  # "field=value", as given to --set
    backbone: str | None = None
    weights: str | None = None
    seed: int = 0  # of random weights


def build_method(spec: MethodSpec, fold: int) -> tuple[Method, WeightsEntry]:
    """The method in eval mode on the CPU, with its weights for a fold.

    Raises `MethodError` for an unknown method or option, `CheckpointError` for weights that are missing or foreign;
    nothing is ever left at random silently.
    """
    cls = find_method(spec.name)
    chosen = (*spec.settings, *((f"backbone={spec.backbone}",) if spec.backbone else ()))
    weights = spec.weights or ("imagenet" if cls.info.untrained else None)
    if weights is None:
        raise CheckpointError(
            f"{cls.info.title} has to be trained: expected --weights PATH to its checkpoint, found none. Import the "
            f"authors' by `fssbench import-checkpoint {spec.name} FILE --folds {fold}`, or ask for --weights imagenet "
            "(backbone only, untrained head) or --weights random by name."
        )
    if weights not in ("imagenet", "random"):
        return _from_checkpoint(spec.name, Path(weights.replace("{fold}", str(fold))), chosen, fold)
    config = parse_settings(cls.Config, chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        method = cls(config)
    check_input(method)
    if weights == "imagenet":
        load_imagenet(method)
    return method.eval(), WeightsEntry(kind=weights, sha256=parameters_sha256(method.state_dict()))


def check_input(method: Method) -> None:
    """`MethodError` if the encoder cannot take images of the method's input size."""
    encoder = method.encoder
    if isinstance(encoder, Backbone):
        for how in (method.query_input, method.support_input):
            if how.size is not None:
                encoder.check_size(how.size)
            elif encoder.multiple > 1 or encoder.only_size is not None:
                raise MethodError(
                    f"{method.info.title} takes images at their own size, and {encoder.name} cuts them into patches: "
                    f"expected one size that is a multiple of {encoder.multiple}. Say --set size=HEIGHT,WIDTH."
                )


def load_imagenet(method: Method) -> None:
    """ImageNet weights for every backbone of a method. Raises `CheckpointError` if they cannot be had."""
    backbones = [module for module in method.modules() if isinstance(module, Pretrained)]
    if not backbones:
        raise MethodError(f"{method.info.title} has no backbone that takes ImageNet weights; say --weights random.")
    for backbone in backbones:
        backbone.load_imagenet()


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
        source = getattr(__import__("sys").modules.get(type(method).__module__), "__file__", None)
        files |= {Path(source)} if source else set()
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _from_checkpoint(name: str, path: Path, settings: tuple[str, ...], fold: int) -> tuple[Method, WeightsEntry]:
    """A method as its checkpoint's card configures it, with the changes of `settings`."""
    card = read_card(path)
    if card.method != name:
        raise CheckpointError(f"{path} was made for method {card.method!r}, expected {name!r}")
    if card.fold is not None and card.fold != fold:
        raise CheckpointError(
            f"{path} was trained for fold {card.fold}, expected fold {fold}: its classes would not be novel. "
            "Give one checkpoint a fold, as in --weights 'panet-fold{fold}.safetensors'."
        )
    method, card = restore(path, settings)
    return method, WeightsEntry(
        kind="checkpoint", path=str(path), sha256=sha256_file(path), source=card.source, regime=card.regime
    )
