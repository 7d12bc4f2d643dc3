"""Features of a frozen encoder: kept where nothing can change them, and the same training with them as without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fssbench.training import loop
from fssbench.training.base_classes import open_training, training_data
from fssbench.training.batches import Episodes
from fssbench.training.features import FeatureCache, Kept, kept_maps
from fssbench.training.loading import Loader
from fssbench.training.recipe import Augmentation
from fssbench.training.stream import EpisodeStream
from fssbench.training.updates import Updater, enter, prepare

CPU = torch.device("cpu")
SMALL = ("size=65,65",)


def request(method: str, root: Path, out: Path, **changes: object) -> loop.TrainRequest:
    values = {"recipe": "lite", "backbone": "efficientnet_lite0", "settings": SMALL, "validate": 0, "start": "random"}
    return loop.TrainRequest(method, "folder", 0, out, root=root, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["pfenet", "hsnet", "sgone", "panet", "fsil"])
def test_an_update_from_kept_features_is_that_from_pixels(name: str, own_images: Path, tmp_path: Path) -> None:
    terms, weights = [], []
    for kept in (False, True):
        run = loop.Run(request(name, own_images, tmp_path))
        stage = run.recipe.stages[0]
        dataset, classes = open_training("folder", own_images, 0, None)
        data = training_data(dataset, 0, classes, stage)
        episodes = EpisodeStream(data.pool, stage, 0, 0)
        updater = Updater(run.method, stage, 10)
        parts = Loader(run.method, stage, data, episodes).batch(0)
        enter(run.method, stage)
        maps = kept_maps(run.method, stage)
        assert maps
        if kept:
            cache = FeatureCache(run.method, maps, CPU)
            parts = [cache.fill(cache.fill(part)) for part in parts]
        torch.manual_seed(0)
        terms.append(updater.step(parts, 0).terms)
        weights.append({k: v.clone() for k, v in run.method.state_dict().items()})
    for key, value in terms[0].items():
        assert terms[1][key] == pytest.approx(value, abs=1e-4)
    for key, value in weights[0].items():
        assert torch.allclose(weights[1][key].float(), value.float(), atol=5e-3), key


def test_maps_are_kept_as_far_as_nothing_changes_them(own_images: Path, tmp_path: Path) -> None:
    def kept(name: str, **changes: object) -> list[str]:
        run = loop.Run(request(name, own_images, tmp_path))
        stage = replace(run.recipe.stages[0], **changes)  # type: ignore[arg-type]
        prepare(run.method, stage)
        enter(run.method, stage)
        return kept_maps(run.method, stage)

    assert kept("pfenet") == ["c1", "c2", "c3", "c4", "c5"]
    assert kept("bam") == []  # a base stage: single images
    assert kept("panet") == ["c1", "c2", "c3"]  # its fourth map is trained
    assert kept("panet", frozen=()) == []
    assert kept("pfenet", evaluating=(), running_statistics=False) == []
    assert kept("pfenet", query=Augmentation(flip=0.5, crop=True)) == []


@pytest.mark.parametrize(("name", "encodes"), [("sgone", True), ("oslsm", False)])
def test_supports_are_encoded_for_methods_that_look_at_their_features(
    name: str, encodes: bool, own_images: Path, tmp_path: Path
) -> None:
    run = loop.Run(request(name, own_images, tmp_path))
    cache = FeatureCache(run.method, [next(iter(run.method.encoder.channels))], CPU)
    query, support = torch.rand(2, 3, 65, 65), torch.rand(2, 1, 1, 3, 65, 65)
    labels = torch.zeros(2, 65, 65)
    filled = cache.fill(Episodes(query, labels, support, labels[:, None, None]))
    assert isinstance(filled, Episodes) and filled.query_maps
    assert (filled.support_maps is not None) == encodes
    assert len(cache._kept.features) == (4 if encodes else 2)


def test_a_full_cache_encodes_again_and_gives_the_same(own_images: Path, tmp_path: Path) -> None:
    run = loop.Run(request("hsnet", own_images, tmp_path))
    images = torch.rand(2, 3, 65, 65)
    maps = list(run.method.encoder.channels)
    full, empty = (FeatureCache(run.method, maps, CPU, kept) for kept in (Kept(), Kept(limit=0)))
    for _ in range(2):
        for name, value in full._maps(images).items():
            assert torch.equal(value, empty._maps(images)[name])
    assert len(full._kept.features) == 2 and not empty._kept.features


def test_trainings_hand_on_features_of_one_encoder_only(own_images: Path, tmp_path: Path) -> None:
    image, kept = torch.rand(1, 3, 65, 65), Kept()
    found = []
    for name, settings in (("sgone", SMALL), ("pfenet", SMALL), ("canet", SMALL)):  # CANet's has another depth
        run = loop.Run(request(name, own_images, tmp_path / name, settings=settings))
        maps = ["c1", "c2", "c3", "c4"]
        cache = FeatureCache(run.method, maps, CPU, kept)
        found.append(len(kept.features))
        assert torch.equal(cache._maps(image)["c4"], run.method.encoder.eval()(image)["c4"])
    assert found == [0, 1, 0]


def test_what_a_base_stage_froze_is_trained_in_the_next(own_images: Path, tmp_path: Path) -> None:
    run = loop.Run(request("bam", own_images, tmp_path, steps=1))
    run.recipe = replace(run.recipe, stages=(replace(run.recipe.stages[0], steps=1), run.recipe.stages[1]))
    before = {name: value.clone() for name, value in run.method.state_dict().items()}
    run.train()
    moved = {name.split(".")[0] for name, value in run.method.state_dict().items() if not value.equal(before[name])}
    assert {"down_query", "cls_meta"} <= moved
