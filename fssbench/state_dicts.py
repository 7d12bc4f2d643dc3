"""State dicts as they are found in files: wrapped, prefixed, beside others, from old torch. No code is run."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fssbench.errors import CheckpointError, unknown_name

# Where training scripts keep the weights, the likeliest first. An averaged copy is never taken unless it is asked for.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
AVERAGED = re.compile(r"ema|swa|average|teacher|momentum", re.IGNORECASE)
# Segments that DataParallel, DistributedDataParallel and torch.compile put into names, wherever they wrapped a part.
WRAPPING_SEGMENTS = ("module", "_orig_mod")
OUTER_PREFIX = "model"  # Lightning's name for the network, before every name
DEEPEST = 4  # levels of nesting that are looked at


@dataclass(frozen=True)
class StateDict:
    """Named tensors of a file, under the names that their authors' code gave them."""

    key: str  # where in the file, "" for the file itself, "model.state_dict" for nested dictionaries
    tensors: dict[str, Tensor]
    removed: tuple[str, ...] = ()  # prefixes taken from names, with how many names had each
    added: tuple[str, ...] = ()  # entries that old torch did not write
    others: tuple[str, ...] = ()  # keys of further state dicts in the file

    @property
    def notes(self) -> list[str]:
        """What was done to the file's names and entries, and what was left, one sentence each."""
        notes = [f"taken from {self.key!r}"] if self.key else []
        notes += [f"removed {prefix} names" for prefix in self.removed]
        if self.added:
            notes.append(
                f"{len(self.added)} batch norms have no num_batches_tracked (written by torch before 0.4.1): set to 0, "
                "which no output depends on"
            )
        if self.others:
            notes.append(f"not read: {', '.join(map(repr, self.others))} (choose another by --key)")
        return notes


def read_state_dict(path: Path, key: str | None = None) -> StateDict:
    """The weights in an authors' file (torch.save or safetensors), their wrapping removed and said in `notes`.

    `key` names one of several state dicts. Raises `CheckpointError` if the file is missing, damaged, needs code to be
    read, holds no state dict, none of that name, several of equal rank, or quantised weights.
    """
    found = state_dicts(read_content(path))
    chosen = _choose(path, list(found), key)
    tensors, removed = unwrapped(found[chosen])
    _refuse_integers(path, tensors)
    tensors, added = with_batch_counts(tensors)
    return StateDict(chosen, tensors, removed, added, tuple(name for name in found if name != chosen))


def read_content(path: Path) -> object:
    """Everything in a file of torch.save or safetensors, on the CPU. Raises `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: expected the file that the method's authors published")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (
        RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, OSError, TypeError, SafetensorError,
        MemoryError, OverflowError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}): expected a file written by torch.save or safetensors. "
            "Was the download cut off, or a web page saved in its place?"
        ) from error


def state_dicts(content: object) -> dict[str, dict[str, Tensor]]:
    """Every dictionary of nothing but named tensors in a file's content, by its place; an optimizer's are no weights.

    >>> list(state_dicts({"epoch": 3, "model": {"a": torch.zeros(1)}, "optimizer": {"state": {0: {}}}}))
    ['model']
    """
    return dict(_walk(content, "", 0))


def _walk(content: object, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or not content or depth > DEEPEST:
        return
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        yield place, dict(content)
        return
    for name, inner in content.items():
        if isinstance(name, str) and not name.startswith(("optim", "sched", "lr_", "scaler")):
            yield from _walk(inner, f"{place}.{name}" if place else name, depth + 1)


def unwrapped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Names without what DataParallel, DDP, torch.compile and Lightning added, in any order; and what was removed.

    Names that would become equal are left as they are.

    >>> unwrapped({"model._orig_mod.module.a": torch.zeros(1), "model._orig_mod.module.b": torch.zeros(1)})[1]
    ("'module.' from 2", "'_orig_mod.' from 2", "'model.' from 2")
    """
    counts: Counter[str] = Counter()
    names = {name: name.split(".") for name in tensors}
    for segment in WRAPPING_SEGMENTS:
        for name, parts in names.items():
            # The last part is the parameter's own name.
            kept = [part for part in parts[:-1] if part != segment] + parts[-1:]
            counts[segment] += len(kept) < len(parts)
            names[name] = kept
    while names and all(len(parts) > 1 and parts[0] == OUTER_PREFIX for parts in names.values()):
        counts[OUTER_PREFIX] = len(names)
        names = {name: parts[1:] for name, parts in names.items()}
    new = {name: ".".join(parts) for name, parts in names.items()}
    if len(set(new.values())) < len(new):
        return dict(tensors), ()
    removed = tuple(f"{segment + '.'!r} from {number}" for segment, number in counts.items() if number)
    return {new[name]: value for name, value in tensors.items()}, removed


def with_batch_counts(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors with the `num_batches_tracked` that torch before 0.4.1 did not write, and the added names."""
    counters = [name.removesuffix("running_mean") + "num_batches_tracked" for name in tensors if _is_mean(name)]
    added = {name: torch.tensor(0) for name in counters if name not in tensors}
    return {**tensors, **added}, tuple(added)


def _is_mean(name: str) -> bool:
    return name.rpartition(".")[2] == "running_mean"


def _choose(path: Path, places: list[str], key: str | None) -> str:
    if not places:
        raise CheckpointError(
            f"{path} holds no state dict: expected names with tensors, alone or below {', '.join(WRAPPERS[:4])} or the "
            "like, found none. `fssbench checkpoint FILE` shows what is in it."
        )
    if key is not None:
        if key not in places:
            raise CheckpointError(f"{path}: {unknown_name('state dict', key, places)}")
        return key
    plain = [place for place in places if not AVERAGED.search(place)] or places
    ranked = [place for name in WRAPPERS for place in plain if name in place.split(".")]
    best = plain if len(plain) == 1 else ranked[:1]
    if not best:
        raise CheckpointError(
            f"{path} holds several state dicts: {', '.join(map(repr, places))}. Say which by --key; "
            "`fssbench checkpoint FILE` shows what is in each."
        )
    return best[0]


def _refuse_integers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    whole = [
        name
        for name, value in tensors.items()
        if name.rpartition(".")[2] in ("weight", "bias") and not value.is_floating_point()
    ]
    if whole:
        raise CheckpointError(
            f"{path}: {len(whole)} weights are whole numbers ({tensors[whole[0]].dtype} in {whole[0]}): expected "
            "floating point. Quantised weights mean nothing without their scales; use the file before quantisation."
        )


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
