"""Invariant 1 and the record: the same counts whatever the cache, the workers, the order or the company."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toy_methods
from PIL import Image
from torch import Tensor
from toy_fixtures import Listener
from toy_runs import frames

from fssbench.banks.bank import open_bank
from fssbench.engine import evaluate
from fssbench.engine.build import MethodSpec
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest, run_methods
from fssbench.engine.store import FeatureStore
from fssbench.errors import FssbenchError
from fssbench.method import EpisodeBatch, MethodConfig, Preprocess
from fssbench.predictions import open_predictions
from fssbench.records import COUNTS, read_record, read_run
from fssbench.reports.entries.results import load_results
from fssbench.reports.tables.layouts import fold_tables
from fssbench.scoring.pixels import count_pixels


def test_a_record_holds_every_episode_once_with_every_pixel_counted(run, bank: Path) -> None:
    (outcome,) = run()
    record = read_record(outcome.folder)
    assert outcome.state == "finished"
    with open_bank(bank) as opened:
        sizes = dict(zip(opened.image_ids, opened.image_sizes.prod(1).tolist(), strict=True))
        assert record.run.bank.fingerprint == opened.fingerprint
    assert len(record.episodes) == 40
    assert not record.episodes.duplicated(["fold", "episode"]).any()
    assert (record.episodes[COUNTS].sum(axis=1) == record.episodes["query"].map(sizes)).all()


def test_counts_are_those_of_the_saved_predictions(run, bank: Path) -> None:
    """The predicted masks, counted by the numpy code of `fssbench.scoring`, give the same rows."""
    (outcome,) = run(save_predictions=True)
    record = read_record(outcome.folder)
    with open_bank(bank) as opened, open_predictions(outcome.folder / "predictions.h5") as predictions:
        for row in record.episodes.itertuples():
            episodes = opened.episodes(row.fold)
            labels = opened.masks.layers(int(episodes.query[row.episode])).maps[0]
            truth = np.where(labels == 255, 255, (labels == row.class_id).astype(np.uint8))
            counted = count_pixels(predictions.mask(row.fold, row.episode), truth)
            assert counted.tolist() == [getattr(row, name) for name in COUNTS]


@pytest.fixture(scope="module")
def plain_rows(bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[pd.DataFrame]]:
    """The rows of a toy method at 1 and 5 shots with the defaults."""

    @cache
    def rows(method: str) -> list[pd.DataFrame]:
        spec = MethodSpec(f"toy_methods:{method}", weights="random")
        request = RunRequest([spec], bank, Settings(torch.device("cpu")), (1, 5), out=tmp_path_factory.mktemp("plain"))
        return frames(run_methods(request, Listener()))

    return rows


@pytest.mark.parametrize(
    "options",
    [
        {"cache": False},
        {"workers": 5},
        {"cache_bytes": 20_000},
        {"cache_bytes": 20_000, "spill": True},
        {"cache_bytes": 0},
        {"encode_batch": 4},
        {"head_batch": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["Toy", "ToyMaps", "ToyPixels", "ToyVote"])
def test_counts_do_not_depend_on_how_the_work_is_done(
    run, plain_rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict
) -> None:
    stores: list[FeatureStore] = []
    closed = FeatureStore.close
    monkeypatch.setattr(FeatureStore, "close", lambda self: stores.append(self) or closed(self))
    small, spills = "cache_bytes" in options, options.get("spill", False)
    how = {name: value for name, value in options.items() if name != "spill"}
    other = frames(run(method, shots=(1, 5), out=tmp_path / "other", spill_folder=tmp_path if spills else None, **how))
    done = [store.statistics for store in stores]
    assert any(each.evicted for each in done) == small
    assert any(each.spilled_bytes for each in done) == any(each.read_back for each in done) == spills
    for a, b in zip(plain_rows(method), other, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_methods_with_equal_encoders_share_one_pass_over_the_images(run, tmp_path: Path) -> None:
    alone = [frames(run(name, out=tmp_path / name))[0] for name in ("Toy", "ToyOneWay")]
    toy_methods.Toy.encoded = 0
    (together_a, together_b) = frames(run("Toy", "ToyOneWay", out=tmp_path / "together"))
    shared = toy_methods.Toy.encoded
    toy_methods.Toy.encoded = 0
    run("Toy", out=tmp_path / "again")
    assert shared <= toy_methods.Toy.encoded + 4  # the second method's first episodes, encoded to learn their size
    pd.testing.assert_frame_equal(together_a, alone[0])
    pd.testing.assert_frame_equal(together_b, alone[1])


def test_each_image_of_a_fold_is_encoded_once_for_all_shots(run, bank: Path) -> None:
    toy_methods.Toy.encoded = 0
    run(shots=(1, 3, 5), folds=(0,))
    with open_bank(bank) as opened:
        drawn = opened.episodes(0)
        images = {*drawn.query.tolist(), *drawn.support.ravel().tolist()}
    assert toy_methods.Toy.encoded == len(images) + 1  # the first query, to learn its size: others have it as support


def test_pooling_ahead_and_pooling_in_the_head_agree(run, tmp_path: Path) -> None:
    a, b = frames(run("Toy", "ToyMaps", out=tmp_path / "x"))
    assert (a[COUNTS] - b[COUNTS]).abs().to_numpy().max() <= 2  # float sums in another order


def test_a_one_way_method_is_merged_over_two_ways_and_says_so(run, two_way_bank: Path) -> None:
    (outcome,) = run("ToyOneWay", bank=two_way_bank)
    record = read_record(outcome.folder)
    assert record.run.method.merged_ways
    assert record.run.way == 2
    by_way = record.episodes.groupby("way").size().to_dict()
    assert by_way == {0: 16, 1: 16, 2: 16}
    predicted = record.episodes.assign(n=record.episodes["tp"] + record.episodes["fp"] + record.episodes["ignored_fg"])
    pixels = record.episodes[COUNTS].sum(axis=1).groupby([record.episodes["fold"], record.episodes["episode"]]).first()
    whole = predicted.groupby(["fold", "episode"])["n"].sum()
    assert (whole == pixels).all()  # every pixel went to exactly one of background, way 1, way 2


def test_a_finished_record_is_skipped_and_force_runs_it_again(run, listener) -> None:
    (first,) = run()
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    (second,) = run()
    assert second.state == "already there"
    assert "--force" in listener.messages[-1]
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    (third,) = run(force=True)
    assert third.state == "finished"
    assert (first.folder / "run.json").stat().st_mtime_ns != stamp


def test_a_run_leaves_nothing_but_the_record(run) -> None:
    (outcome,) = run()
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["episodes.csv.gz", "run.json"]


def test_progress_is_told_of_every_episode_of_every_shot(run, listener) -> None:
    run(shots=(1, 5))
    assert listener.episodes == listener.done == 80


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": (7,)}, ["fold 7", "0, 1"]),
        ({"shots": (6,)}, ["6", "5"]),
        ({"annotation": "box"}, ["box", "mask"]),
        ({"precision": "fp8"}, ["fp8", "fp32"]),
    ],
)
def test_a_request_the_bank_cannot_serve_is_refused_before_any_work(run, tmp_path: Path, options, words) -> None:
    with pytest.raises(FssbenchError) as caught:
        run(out=tmp_path / "never", **options)
    assert all(word in str(caught.value) for word in words)
    assert not list((tmp_path / "never").rglob("run.json"))


def test_episodes_of_one_query_share_its_features_instead_of_copying_them(run, monkeypatch) -> None:
    seen: list[tuple[int, set[int]]] = []
    plain = toy_methods.Toy.segment

    def watched(self: toy_methods.Toy, episodes: EpisodeBatch) -> Tensor:
        seen.append((episodes.size[0], {value.stride(0) for value in episodes.query.values()}))
        return plain(self, episodes)

    monkeypatch.setattr(toy_methods.Toy, "segment", watched)
    run(head_batch=2)  # half a batch is one episode: every query has steps of its own
    strides = [stride for batch, stride in seen if batch == 2]
    assert strides
    assert all(stride == {0} for stride in strides)


@pytest.mark.parametrize(("shot", "most"), [(1, 5), (5, 2)])  # of 6 at most, but cut into equal steps
def test_a_step_has_memory_for_the_maps_of_its_episodes(run, monkeypatch, shot: int, most: int) -> None:
    monkeypatch.setattr(evaluate, "BATCH_BYTES", 100_000)  # a map of ToyMaps, 8 x 16 x 16, takes 8,192
    sizes: list[int] = []
    plain = toy_methods.ToyMaps.segment

    def watched(self: toy_methods.ToyMaps, episodes: EpisodeBatch) -> Tensor:
        sizes.append(episodes.size[0])
        return plain(self, episodes)

    monkeypatch.setattr(toy_methods.ToyMaps, "segment", watched)
    run("ToyMaps", shots=(shot,))
    assert max(sizes) == most


class ToyCoarse(toy_methods.Toy):
    """Sees images as 3 x 3 pixels, so that small objects are lost."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.query_input = Preprocess((3, 3))


def test_supports_that_vanish_at_the_input_size_are_counted_and_said(run, bank: Path, monkeypatch) -> None:
    monkeypatch.setattr(toy_methods, "ToyCoarse", ToyCoarse, raising=False)
    (fine,) = run("Toy")
    (coarse,) = run("ToyCoarse")
    with open_bank(bank) as opened:
        lost = 0
        for fold in (0, 1):
            episodes = opened.episodes(fold, 1)
            for class_id, image in zip(episodes.classes[:, 0], episodes.support[:, 0, 0], strict=True):
                mask = Image.fromarray(opened.masks.of_class(int(image), int(class_id)))
                lost += not (np.asarray(mask.resize((3, 3), Image.Resampling.NEAREST)) == 1).any()
    assert 0 < lost < 40
    assert (read_run(fine.folder).vanished_supports, read_run(coarse.folder).vanished_supports) == (0, lost)
    tables = [table for one in (fine, coarse) for table in fold_tables(load_results(one.folder))]
    assert [any("no pixel of their object" in note for note in table.notes) for table in tables] == [False, True]
