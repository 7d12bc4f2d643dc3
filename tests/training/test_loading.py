"""Batches: what of a query counts in the losses."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from fssbench.training import loop
from fssbench.training.base_classes import open_training, training_data
from fssbench.training.batches import Episodes
from fssbench.training.loading import Loader
from fssbench.training.stream import EpisodeStream


def labels(root: Path, out: Path, background: float, step: int = 0) -> torch.Tensor:
    values = {"recipe": "lite", "backbone": "efficientnet_lite0", "settings": ("size=65,65",), "start": "random"}
    run = loop.Run(loop.TrainRequest("panet", "folder", 0, out, root=root, **values))  # type: ignore[arg-type]
    stage = replace(run.recipe.stages[0], background=background)
    dataset, classes = open_training("folder", root, 0, None)
    data = training_data(dataset, 0, classes, stage)
    (batch,) = Loader(run.method, stage, data, EpisodeStream(data.pool, stage, 0, 0)).batch(step)
    assert isinstance(batch, Episodes)
    return batch.query_labels


def test_a_share_of_the_background_counts_and_every_pixel_of_the_object(own_images: Path, tmp_path: Path) -> None:
    whole, thinned = (labels(own_images, tmp_path, share) for share in (1.0, 0.2))
    assert torch.equal(whole == 1, thinned == 1)
    assert ((thinned == 255) >= (whole == 255)).all()
    kept = (thinned == 0).sum() / (whole == 0).sum()
    assert float(kept) == pytest.approx(0.2, abs=0.03)
    assert torch.equal(thinned, labels(own_images, tmp_path, 0.2))  # the same episode, the same pixels


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_stops_early_waits_for_no_batch_that_nobody_has_begun(workers: int) -> None:
    begun, go = [], threading.Event()

    def batch(step: int, parts: int) -> list[object]:
        begun.append(step)
        if step:
            go.wait(60)
        return []

    batches = Loader.batches(cast(Loader, SimpleNamespace(batch=batch)), 0, 100, workers)
    assert next(batches) == (0, [])
    for _ in range(3000):  # until every thread has a batch that will not end
        if len(begun) > workers:
            break
        time.sleep(0.01)
    threading.Timer(0.3, go.set).start()
    batches.close()
    assert sorted(begun) == list(range(1 + workers))
