"""What takes part in a run: a method as it was asked for, and its weights for every fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fssbench.checkpoints import Checkpoint
from fssbench.engine.build import (
    MethodSpec,
    checkpoint_for,
    checkpoint_path,
    entry_of,
    restored,
    without_checkpoint,
)
from fssbench.engine.hashes import code_sha256
from fssbench.engine.parameters import count_parameters
from fssbench.errors import CheckpointError
from fssbench.method import Method
from fssbench.records import Parameters, WeightsEntry
from fssbench.regime import exposure


class Entrant:
    """A method and its weights by fold, resolved once; all numbers of shots share the one that is loaded."""

    def __init__(
        self,
        spec: MethodSpec,
        method: Method,
        weights: Mapping[int, WeightsEntry],
        checkpoints: Mapping[int, Checkpoint],
    ) -> None:
        """`method` has the weights of the first fold; `checkpoints` is empty where all folds have the same."""
        self.spec, self.method, self.weights, self._checkpoints = spec, method, dict(weights), checkpoints
        self._loaded = next(iter(self.weights))
        self.code = code_sha256([method])

    def method_for(self, fold: int) -> Method:
        """The method with this fold's weights, on the CPU if they had to be loaded."""
        if self.weights[fold].sha256 != self.weights[self._loaded].sha256:
            self.method, self._loaded = restored(self.spec, self._checkpoints[fold]), fold
        return self.method

    def parameters(self) -> Parameters:
        """How many there are, and how many of them were learnt."""
        return count_parameters(self.method, self.weights[self._loaded])


def entrant(
    spec: MethodSpec,
    dataset: str,
    classes: Mapping[int, Mapping[int, str]],
    allow_contaminated: bool,
    say: Callable[[str], None],
) -> Entrant:
    """The method of `spec`, for the folds of `dataset` that are keys of `classes`, their classes by name.

    Raises `MethodError` for a method that cannot be built, `CheckpointError` for a checkpoint that is missing, of
    another method or otherwise configured than those of the other folds, and for one that was trained on classes it
    would be tested on, unless `allow_contaminated`: then its entry names them. `say` is told of what is not known.
    """
    paths = {fold: checkpoint_path(spec, fold, dataset) for fold in classes}
    opened = {path: checkpoint_for(spec, path) for path in dict.fromkeys(paths.values()) if path is not None}
    checkpoints = {fold: opened[path] for fold, path in paths.items() if path is not None}
    if not checkpoints:
        fold = next(iter(classes))
        method, entry = without_checkpoint(spec, fold, dataset)
        return Entrant(spec, method, dict.fromkeys(classes, entry), {})
    weights: dict[int, WeightsEntry] = {}
    first = next(iter(checkpoints.values()))
    for fold, checkpoint in checkpoints.items():
        if checkpoint.card.config != first.card.config:
            raise CheckpointError(
                f"{checkpoint.path}: expected the configuration of the other folds' checkpoints, {first.card.config}, "
                f"found {checkpoint.card.config}. A record holds one configuration; run these folds apart."
            )
        names = classes[fold]
        found = exposure(checkpoint.card.regime, dataset, names, fold)
        seen = list(found.classes or names.values()) if found.state == "contaminated" else []
        if seen and not allow_contaminated:
            raise CheckpointError(
                f"{checkpoint.path} cannot be tested on fold {fold} of {dataset}: it was {found.reason}. Give one "
                "checkpoint a fold, as in --weights 'panet-fold{fold}.safetensors', run the folds it was trained for "
                "by --folds, or say --allow-contaminated: the record is marked then."
            )
        if found.state == "unknown":
            say(f"{checkpoint.path}: not known whether it saw the classes of fold {fold}: {found.reason}")
        weights[fold] = entry_of(checkpoint, seen)
    return Entrant(spec, restored(spec, first), weights, checkpoints)
