"""A method object evaluated on a bank within this process: what training does between its steps. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Contender, Counted, Settings, evaluate_fold
from fssbench.engine.rows import Counts, Key, frame_of, ways_of
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import rules_of

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank
    from fssbench.method import Method


@dataclass(frozen=True)
class Evaluation:
    """What a run of the same method on the same bank would have recorded."""

    summary: dict[str, Any]  # as `fssbench.scoring.metrics.summarise` gives it
    episodes: pd.DataFrame  # the rows of episodes.csv.gz


def evaluate_method(
    method: Method,
    bank: Bank,
    shot: int = 1,
    folds: Sequence[int] | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Segment the bank's episodes (of all folds, or some) under its protocol and count pixels.

    The method is where `settings.device` (the CPU by default) says, comes back in the mode (train or eval) it came
    in, and keeps its parameters and its gradients. Raises `MethodError` if it fails or gives NaN.
    """
    settings = settings or Settings(torch.device("cpu"))
    rows: dict[Key, Counts] = {}
    ways = ways_of(bank.ways)

    def take(fold: int, shot: int, done: Sequence[Counted]) -> None:
        for episode, counts, _ in done:
            rows.update(((fold, episode, way), row.tolist()) for way, row in zip(ways, counts, strict=True))

    wanted = sorted(bank.fold_classes) if folds is None else list(folds)
    training = method.training
    method.eval().to(settings.device)
    try:
        with numerics(settings.device, settings.precision):
            for fold in wanted:
                episodes = bank.episodes(fold, shot)
                everything = np.arange(len(episodes.query))
                contender = Contender("the method", method, [shot], lambda *_, all_=everything: all_, take)
                evaluate_fold(bank, fold, episodes, [contender], settings)
                if contender.error is not None:
                    raise contender.error
    finally:
        method.train(training)
    frame = frame_of(bank, shot, rows.items())
    classes = {fold: list(bank.fold_classes[fold]) for fold in wanted}
    return Evaluation(summarise(frame, classes, rules_of(bank.protocol.model_dump())), frame)
