"""A method with its weights: by name, options and `--weights`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fssbench.backbones import Backbone, Pretrained
from fssbench.checkpoints import Checkpoint, load_imagenet, open_checkpoint, restore
from fssbench.engine.hashes import parameters_sha256
from fssbench.errors import CheckpointError, FssbenchError, MethodError
from fssbench.method import Method
from fssbench.names import file_name, plain_name
from fssbench.plugins import reason
from fssbench.records import WeightsEntry
from fssbench.registry import find_method
from fssbench.settings import parse_settings

WITHOUT_FILE = ("imagenet", "random", None)  # values of `weights` that name no file


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
    preferred_backbone: str | None = None  # where neither a checkpoint nor `backbone` or `settings` names one


def build_method(spec: MethodSpec, fold: int, dataset: str = "DATASET") -> tuple[Method, WeightsEntry]:
    """The method in eval mode on the CPU, with its weights for a fold (of `dataset`, as messages name it).

    Raises `MethodError` for an unknown method or option, `CheckpointError` for weights that are missing or foreign;
    nothing is ever left at random silently.
    """
    path = checkpoint_path(spec, fold, dataset)
    if path is None:
        return without_checkpoint(spec, fold, dataset)
    checkpoint = checkpoint_for(spec, path)
    return restored(spec, checkpoint), entry_of(checkpoint)


def without_checkpoint(spec: MethodSpec, fold: int, dataset: str) -> tuple[Method, WeightsEntry]:
    """As `build_method`, where the weights are in no file of ours: a method's own, ImageNet's, or random ones."""
    cls, chosen, weights = find_method(spec.name), _chosen(spec), _weights_of(spec)
    preferred = (f"backbone={spec.preferred_backbone}",) if spec.preferred_backbone and not spec.backbone else ()
    method = _drawn(cls, (*preferred, *chosen), spec.seed)
    if preferred and not any(isinstance(module, Backbone) for module in method.modules()):
        method = _drawn(cls, chosen, spec.seed)  # it has none, so nothing else may be recorded
    if not method.state_dict():
        return method.eval(), WeightsEntry(kind="none", sha256=parameters_sha256({}))
    if weights is None:
        raise CheckpointError(
            f"{cls.info.title} has to be trained: expected --weights, found none. {_to_train(spec, fold, dataset)} "
            f"The authors' checkpoint is imported by `fssbench import-checkpoint {spec.name} FILE --folds {fold}`. "
            "An untrained head has to be asked for: --weights imagenet, or --weights random."
        )
    if spec.weights is None and besides_encoders(method):
        by_chance = drawn_by_chance(method, _drawn(cls, (*preferred, *chosen), spec.seed + 1))
        if by_chance:
            raise MethodError(
                f"{cls.info.title} says `untrained=True`, but {by_chance[0]} is drawn at random and nothing has "
                f"trained it: say `untrained=False` in its `info`. {_to_train(spec, fold, dataset)} "
                "An untrained head has to be asked for: --weights imagenet."
            )
    check_input(method)
    if weights == "imagenet":
        load_imagenet(method)
    return method.eval(), WeightsEntry(kind=_kind(method, weights), sha256=parameters_sha256(method.state_dict()))


def besides_encoders(method: Method) -> dict[str, Tensor]:
    """The parts of a state dict that no published weights fill."""
    inside = [name for name, module in method.named_modules() if name == "encoder" or isinstance(module, Pretrained)]
    return {
        name: value
        for name, value in method.state_dict().items()
        if not name.startswith(tuple(f"{prefix}." for prefix in inside))
    }


def drawn_by_chance(method: Method, other: Method) -> list[str]:
    """What no published weights fill and two instances of other seeds start with different values of."""
    values = besides_encoders(other)
    return [name for name, value in besides_encoders(method).items() if not torch.equal(value, values[name])]


def _to_train(spec: MethodSpec, fold: int, dataset: str) -> str:
    """How a method is trained for a fold, as a sentence with the command."""
    cls = find_method(spec.name)
    if not cls.recipes:
        return 'It names no `recipes` to train it by (docs/adding-a-method.md, "Train it").'
    words = ["fssbench", "train", spec.name, "--dataset", dataset, "--folds", str(fold)]
    backbone = spec.backbone or spec.preferred_backbone
    words += ["--backbone", backbone] if backbone and backbone != cls.Config.model_fields["backbone"].default else []
    words += [] if "paper" in cls.recipes else ["--recipe", next(iter(cls.recipes))]
    words += [word for setting in spec.settings for word in ("--set", setting)]
    return f"Train it by `{shlex.join(words)}`; --weights auto finds it then."


def _kind(method: Method, weights: str) -> Literal["imagenet", "published", "random"]:
    """What a record calls the weights: `--weights imagenet` of SAM or DINOv2 are not ImageNet's."""
    kinds = {module.weights_kind for module in method.modules() if isinstance(module, Pretrained)}
    if weights == "imagenet":
        return "published" if "published" in kinds else "imagenet"
    return "random"


def _drawn(cls: type[Method], settings: tuple[str, ...], seed: int) -> Method:
    config = parse_settings(cls.Config, settings)
    try:
        with _seeded(seed):
            method = cls(config)
    except FssbenchError:
        raise
    except Exception as error:
        raise MethodError(f"{cls.info.title} could not be built: {reason(error)}") from error
    missing = [name for name in ("encoder", "query_input") if not hasattr(method, name)]
    if missing:
        raise MethodError(f"{cls.info.title}: expected __init__ to set {' and '.join(missing)}, found none")
    return method


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


def compile_method(method: Method) -> None:
    """Compile encoder and head, where they are; a method that is compiled already is left as it is."""
    if "segment" not in vars(method):
        method.encoder.compile()
        object.__setattr__(method, "segment", torch.compile(method.segment))


def _weights_of(spec: MethodSpec) -> str | None:
    return spec.weights or ("imagenet" if find_method(spec.name).info.untrained else None)


def _chosen(spec: MethodSpec) -> tuple[str, ...]:
    return (*spec.settings, *((f"backbone={spec.backbone}",) if spec.backbone else ()))


def checkpoint_path(spec: MethodSpec, fold: int, dataset: str) -> Path | None:
    """The file that `weights` names for a fold: with `auto` or a folder, what `fssbench train` left below it.

    None where they name no file. Raises `CheckpointError` where there is none, or more than one.
    """
    weights = _weights_of(spec)
    if weights is None or weights in WITHOUT_FILE:
        return None
    folder = Path("checkpoints") if weights == "auto" else Path(weights.replace("{fold}", str(fold)))
    if weights != "auto" and not folder.is_dir():
        return folder
    name = f"{file_name(spec.name)}-{file_name(spec.backbone or '*')}-*fold{fold}"
    found = sorted(folder.glob(f"{name}/best.safetensors"))
    if len(found) != 1:
        listed = ", ".join(path.parent.name for path in found) or "none"
        how = "Name one by its path." if found else _to_train(spec, fold, dataset)
        raise CheckpointError(
            f"--weights {weights}: expected one training of {spec.name} for fold {fold} in {folder}, "
            f"found {listed}. {how}"
        )
    return found[0]


def checkpoint_for(spec: MethodSpec, path: Path) -> Checkpoint:
    """A checkpoint of the method that was asked for. Raises `CheckpointError` for one of another."""
    checkpoint = open_checkpoint(path)
    if plain_name(checkpoint.card.method) != plain_name(spec.name):
        raise CheckpointError(f"{path} was made for method {checkpoint.card.method!r}, expected {spec.name!r}")
    return checkpoint


def restored(spec: MethodSpec, checkpoint: Checkpoint) -> Method:
    """A method as its checkpoint's card configures it, with the changes that were asked for, in eval mode."""
    return restore(checkpoint, _chosen(spec))


def entry_of(checkpoint: Checkpoint, seen: Sequence[str] = ()) -> WeightsEntry:
    """What a record says of a checkpoint; `seen` are classes it is tested on and was trained on."""
    return WeightsEntry(
        kind="checkpoint", path=str(checkpoint.path), sha256=checkpoint.sha256, source=checkpoint.card.source,
        regime=checkpoint.card.regime, contaminated=list(seen),
    )  # fmt: skip


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Parameters are drawn on the CPU, from its generator alone: those of accelerators are left as they are."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
