"""`fssbench run`, `score` and `predict` as a user types them."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import toy_data
import toy_methods
from command_line import fresh, fssbench, refused
from PIL import Image
from rich.console import Console

from fssbench.banks.bank import open_bank
from fssbench.checkpoints import Card, save_checkpoint
from fssbench.cli.cluster import parse_bytes
from fssbench.cli.progress import RunProgress
from fssbench.engine import run as engine_run
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest
from fssbench.predictions import open_predictions
from fssbench.records import Run, read_record
from fssbench.regime import Regime


def run_toy(bank: Path, out: Path, *more: str) -> list[dict]:
    """The outcomes of a run with --json."""
    return ["run", "toy_methods:Toy", "--weights", "random", "--bank", str(bank), "--out", str(out), "--json", *more]


@pytest.mark.parametrize(
    "words",
    [["--shots", "1", "5"], ["--shots", "1,5"], ["--shots", "1", "--shots", "5"], ["--shots", "1,", "5"]],
    ids=" ".join,
)
def test_shots_may_be_written_in_every_usual_way(bank: Path, tmp_path: Path, words: list[str]) -> None:
    outcomes = json.loads(fssbench(*run_toy(bank, tmp_path, *words, "--folds", "0", "1")).out)
    assert [outcome["shot"] for outcome in outcomes] == [1, 5]
    assert all(outcome["state"] == "finished" for outcome in outcomes)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "panett"], ["panett", "panet", "did you mean"]),
        (["run", "toy_methods:Toy", "--set", "scael=1"], ["scael", "scale"]),
        (["run", "toy_methods:Toy", "--device", "cuda:9"], ["cuda:9", "cpu"]),
        (["run", "toy_methods:Toy", "--cache", "lots"], ["lots", "4GB"]),
        (["run", "canet"], ["CANet has to be trained", "import-checkpoint"]),
        (["run", "toy_methods:Toy", "--folds", "8"], ["fold 8", "0, 1"]),
        (["run", "toy_methods:Toy", "--shoots", "5"], ["error: No such option", "--shoots", "--shots", "run --help"]),
        (["run", "toy_methods:Toy", "--batch", "0"], ["error: Invalid value for '--batch'", "run --help"]),
    ],
)
def test_a_mistake_is_one_message_and_status_2(bank: Path, tmp_path: Path, words, expected) -> None:
    weights = [] if "canet" in words else ["--weights", "random"]
    said = refused(*words, "--bank", bank, "--out", tmp_path / "out", *weights)
    assert all(word in said for word in expected), said
    assert said.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_mistake_found_in_the_bank_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    done = fssbench("run", "prototype", "--bank", tmp_path / "text.h5", status=2)
    assert (done.err.count("error:"), done.err.startswith("error:"), done.out) == (1, True, "")


def test_a_run_says_its_bank_and_off_a_terminal_a_line_a_minute() -> None:
    now, err = iter([100.0, 130.0, 160.0, 190.0, 230.0]), io.StringIO()
    with RunProgress(Console(file=err), "toy", "bank x.h5", clock=lambda: next(now)) as progress:
        progress.total(1000, 400)
        for _ in range(4):
            progress.advance(60)
    assert err.getvalue().splitlines() == [
        "bank x.h5",
        "520 of 1000 episodes, 2.0 episodes/s, 0:04:00 left",
        "640 of 1000 episodes, 1.8 episodes/s, 0:03:15 left",
    ]


def test_a_method_named_by_its_file_has_one_record_from_whatever_folder(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "recorded_by_file.py").write_text("from toy_methods import Toy as Mine\n")
    words = ("--weights", "random", "--bank", bank, "--out", tmp_path / "out", "--folds", 0, "--json")
    outcomes = []
    for folder, file in ((tmp_path, "own/recorded_by_file.py"), (tmp_path / "own", "./recorded_by_file.py")):
        monkeypatch.chdir(folder)
        outcomes += json.loads(fssbench("run", f"{file}:Mine", *words).out)
    assert [outcome["state"] for outcome in outcomes] == ["finished", "already there"]
    assert Path(outcomes[0]["folder"]).name.startswith("recorded_by_file-Mine-toy-random-")
    assert {read_record(Path(outcome["folder"])).run.method.name for outcome in outcomes} == {"recorded_by_file:Mine"}


def test_a_random_head_is_not_run_as_if_it_needed_no_training(bank: Path, tmp_path: Path, monkeypatch) -> None:
    class Guesses(toy_methods.Toy):
        def __init__(self, config) -> None:  # type: ignore[no-untyped-def]
            super().__init__(config)
            self.mix = torch.nn.Conv2d(8, 8, 1)

    monkeypatch.setattr(toy_methods, "Guesses", Guesses, raising=False)
    said = refused("run", "toy_methods:Guesses", "--bank", bank, "--out", tmp_path / "out")
    assert "says `untrained=True`, but mix.weight is drawn at random" in said


def test_a_failing_method_gives_a_status_that_is_not_0(bank: Path, tmp_path: Path) -> None:
    words = ["run", "toy_methods:ToyNaN", "--weights", "random", "--bank", bank, "--out", tmp_path]
    assert "not finite" in fssbench(*words, status=2).err


def test_ctrl_c_exits_130_and_prints_the_command_that_resumes(bank: Path, tmp_path: Path, monkeypatch) -> None:
    import toy_methods

    def interrupt(self, episodes):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_methods.Toy, "segment", interrupt)
    monkeypatch.setattr(sys, "argv", ["fssbench", *run_toy(bank, tmp_path)])
    assert f"--bank {bank}" in fssbench(*run_toy(bank, tmp_path), status=130).err.replace("\n", "")


def test_help_is_quick_to_import_and_never_touches_torch() -> None:
    code = (
        "import sys; from fssbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    assert fresh([sys.executable, "-c", code]).out.rstrip().endswith("False")


@pytest.mark.parametrize("ways", [1, 2])
def test_scoring_saved_predictions_gives_the_same_rows(
    bank: Path, two_way_bank: Path, tmp_path: Path, ways: int
) -> None:
    path = bank if ways == 1 else two_way_bank
    folder = Path(json.loads(fssbench(*run_toy(path, tmp_path / "a", "--save-predictions")).out)[0]["folder"])
    words = ["score", folder / "predictions.h5", "--bank", path, "--shots", "1", "--name", "Caffe"]
    scored = read_record(Path(json.loads(fssbench(*words, "--out", tmp_path / "b", "--json").out)["folder"]))
    own = read_record(folder)
    assert scored.run.summary == own.run.summary
    assert scored.episodes.equals(own.episodes)


def test_masks_as_png_files_are_scored_and_a_missing_one_is_named(bank: Path, tmp_path: Path) -> None:
    with open_bank(bank) as opened:
        named = json.dumps({"bank": opened.fingerprint})
        for fold in opened.fold_classes:
            (tmp_path / "png" / str(fold)).mkdir(parents=True)
            drawn = opened.episodes(fold, 1)
            for episode, query in enumerate(drawn.query.tolist()):
                truth = opened.masks.layers(query).maps[0] == drawn.classes[episode, 0]
                Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "png" / str(fold) / f"{episode}.png")
    words = ["score", tmp_path / "png", "--bank", bank, "--shots", "1", "--name", "oracle", "--out", tmp_path / "out"]
    assert "names the bank they were made for" in fssbench(*words, "--json", status=2).said
    (tmp_path / "png" / "manifest.json").write_text(named)
    summary = json.loads(fssbench(*words, "--json").out)["summary"]
    assert all(fold["miou"] == 1.0 for fold in summary["folds"].values())
    assert "--force" in fssbench(*words, status=2).err
    (tmp_path / "png" / "1" / "7.png").unlink()
    assert "1 missing (1/7)" in fssbench(*words, "--force", status=2).err.replace("\n", "")


def test_predictions_for_another_bank_are_refused(bank: Path, two_way_bank: Path, tmp_path: Path) -> None:
    folder = Path(json.loads(fssbench(*run_toy(bank, tmp_path / "a", "--save-predictions")).out)[0]["folder"])
    words = ["score", folder / "predictions.h5", "--bank", two_way_bank, "--shots", "1", "--name", "x"]
    assert "name the right --bank" in fssbench(*words, "--out", tmp_path / "b", status=2).said


def test_predictions_are_read_by_h5py_alone_as_documented(bank: Path, tmp_path: Path) -> None:
    done = fssbench(*run_toy(bank, tmp_path, "--save-predictions"))
    path = Path(json.loads(done.out)[0]["folder"]) / "predictions.h5"
    with h5py.File(path, locking=False) as file, open_predictions(path) as ours, open_bank(bank) as opened:
        group = file["folds/0"]
        assert group["episode"][:].tolist() == list(range(20))
        start, stop = group["offset"][3:5]
        assert bytes(group["bytes"][start : start + 4]) == b"\x89PNG"
        assert stop > start
        query = int(opened.episodes(0).query[3])
        assert ours.mask(0, 3).shape == tuple(opened.image_sizes[query])


def test_a_user_segments_their_own_images(bank: Path, tmp_path: Path) -> None:
    red = np.full((40, 48, 3), 90, np.uint8)
    red[10:30, 10:30] = (250, 10, 10)
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 10:30] = 255
    query = np.full((60, 50, 3), 90, np.uint8)
    query[5:25, 5:25] = (250, 10, 10)
    for name, array in (("s.png", red), ("m.png", mask), ("q.png", query)):
        Image.fromarray(array).save(tmp_path / name)
    words = ["predict", "toy_methods:Toy", "--weights", "random", "--support", tmp_path / "s.png", tmp_path / "m.png"]
    words += ["--query", tmp_path / "q.png", "--out", tmp_path / "out"]
    fssbench(*words)
    found = np.asarray(Image.open(tmp_path / "out" / "q.mask.png")) > 0
    assert found.shape == (60, 50)
    truth = np.zeros((60, 50), bool)
    truth[5:25, 5:25] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.6  # at a quarter of the resolution
    with Image.open(tmp_path / "out" / "q.overlay.png") as overlay:
        assert overlay.size == (50, 60)
    assert "--force" in fssbench(*words, status=2).err


@pytest.mark.parametrize("form", ["soft jpeg", "rgba", "gif", "colour", "label map", "data set"])
def test_predict_reads_supports_as_data_sets_do(form: str, tmp_path: Path) -> None:
    red = np.full((40, 48, 3), 90, np.uint8)
    red[10:30, 10:30] = (250, 10, 10)
    there = np.zeros((40, 48), bool)
    there[10:30, 10:30] = True
    grey = Image.fromarray(there.astype(np.uint8) * 255)
    name, more = {"soft jpeg": "m.jpg", "gif": "m.gif"}.get(form, "m.png"), []
    mask = {"soft jpeg": grey.convert("RGB"), "rgba": grey.convert("RGBA"), "gif": grey}.get(form)
    if form == "colour":
        pixels = np.zeros((40, 48, 3), np.uint8)
        pixels[there], pixels[:5] = (250, 50, 83), (51, 221, 255)
        mask, more = Image.fromarray(pixels), ["--class-id", "#fa3253"]
    elif mask is None:
        values = np.where(there, 7, 3).astype(np.uint8)
        values[:3] = 0
        mask, more = Image.fromarray(values), ["--class-id", "7"]
    for folder, file, picture in (("images", "s.png", Image.fromarray(red)), ("masks", name, mask)):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / file)
    supports = [tmp_path / "images" / "s.png", tmp_path / "masks" / name]
    if form == "data set":
        (tmp_path / "masks" / "m.png").rename(tmp_path / "masks" / "s.png")
        (tmp_path / "dataset.toml").write_text("[classes]\ntable = 3\napple = 7\n")
        supports, more = ["s", "--data", tmp_path / "dataset.toml"], ["--class", "apple"]
    words = ["predict", "toy_methods:Toy", "--weights", "random", "--query", tmp_path / "images" / "s.png"]
    words += ["--out", tmp_path / "out", "--support", *supports]
    if more:
        assert ("--class" if form == "data set" else "--class-id") in fssbench(*words, status=2).err
    fssbench(*words, *more)
    found = np.asarray(Image.open(tmp_path / "out" / "s.mask.png")) > 0
    assert (found & there).sum() / (found | there).sum() > 0.6


def test_a_support_without_an_object_is_refused(tmp_path: Path) -> None:
    for name in ("s.png", "m.png"):
        Image.new("L", (40, 30)).save(tmp_path / name)
    words = ["predict", "toy_methods:Toy", "--weights", "random", "--query", tmp_path / "s.png"]
    done = fssbench(*words, "--support", tmp_path / "s.png", tmp_path / "m.png", "--out", tmp_path / "out", status=2)
    assert "expected a mask with an object" in done.said


@pytest.mark.parametrize(("text", "value"), [("4GB", 4 << 30), ("0", 0), ("1.5k", 1536), ("10MiB", 10 << 20)])
def test_sizes_are_read_in_the_usual_units(text: str, value: int) -> None:
    assert parse_bytes(text) == value


def test_speed_says_where_the_time_goes_and_how_far_the_floor_is(bank: Path) -> None:
    words = [
        "speed",
        "toy_methods:Toy",
        "--weights",
        "random",
        "--bank",
        bank,
        "--episodes",
        "4",
        "--off-episodes",
        "2",
    ]
    printed = fssbench(*words, "--shots", "1", "5", "--channels-last").out
    for word in ("decode", "encode", "head", "score", "floor", "ratio", "memory", "cache off"):
        assert word in printed
    assert json.loads(fssbench(*words, "--json").out)["episodes"] == 4


@pytest.mark.parametrize(
    "protocol",
    [
        {},
        {"ignore_label": "background"},
        {"averaging": "classes"},
        {"label_resize": "nearest-twice", "input_size": 9},
        {"absent_class": "zero", "vanished_label": "drop", "accumulation": "episode", "fb_pooling": "all"},
    ],
    ids=str,
)
def test_score_and_run_give_the_same_numbers_under_every_protocols_rules(tmp_path: Path, protocol) -> None:
    path = toy_data.make_bank(tmp_path / "toy.h5", episodes=8, shots=1, protocol=protocol)
    (own,) = json.loads(fssbench(*run_toy(path, tmp_path / "a", "--save-predictions")).out)
    words = ["score", Path(own["folder"]) / "predictions.h5", "--bank", path, "--shots", "1", "--name", "x", "--json"]
    assert json.loads(fssbench(*words, "--out", tmp_path / "b").out)["summary"] == own["summary"]


def test_the_order_of_folds_makes_no_other_run(bank: Path, tmp_path: Path) -> None:
    fssbench(*run_toy(bank, tmp_path, "--folds", "1", "0"))
    (again,) = json.loads(fssbench(*run_toy(bank, tmp_path)).out)
    assert again["state"] == "already there"


def test_a_variable_for_the_backbone_beats_no_checkpoint_and_is_not_recorded_where_there_is_none(
    tmp_path: Path,
) -> None:
    """`FSSBENCH_BACKBONE` is for machines without the papers' weights."""
    spec = MethodSpec("panet", ("size=33,33",), None, "random", 0, "efficientnet_lite0")
    method, _ = build_method(spec, 0)
    assert method.config.backbone == "efficientnet_lite0"
    card = Card(
        method="panet", backbone="efficientnet_lite0", config=method.config.model_dump(), regime=Regime(), source="x"
    )
    save_checkpoint(tmp_path / "w.safetensors", method.state_dict(), card)
    of_checkpoint = replace(spec, weights=str(tmp_path / "w.safetensors"), preferred_backbone="resnet50")
    assert build_method(of_checkpoint, 0)[0].config.backbone == "efficientnet_lite0"
    asked = replace(spec, backbone="efficientnet_lite0", preferred_backbone="resnet50")
    assert build_method(asked, 0)[0].config.backbone == "efficientnet_lite0"
    plain = MethodSpec("tiny_plugin:Tiny", (), None, "random", 0, "resnet50")
    assert build_method(plain, 0)[0].config.backbone == "one-layer"


def test_the_variable_for_the_backbone_holds_where_no_option_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = toy_data.make_bank(tmp_path / "bank.h5", episodes=1, shots=1)
    words = ("run", "panet", "--weights", "random", "--set", "size=33,33", "--bank", bank, "--out", tmp_path / "r")
    monkeypatch.setenv("FSSBENCH_BACKBONE", "efficientnet_lite0")
    assert recorded(*words).backbone == "efficientnet_lite0"
    monkeypatch.setenv("FSSBENCH_BACKBONE", "efficientnet_lite1")
    assert recorded(*words, "--backbone", "efficientnet_lite0", "--seed", "1").backbone == "efficientnet_lite0"


def recorded(*words: object) -> Run:
    """The record of a run."""
    (outcome,) = json.loads(fssbench(*words, "--json").out)
    return read_record(Path(outcome["folder"])).run


def test_the_newest_bank_is_taken_of_the_data_set_and_ways_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ways, age in ((1, 60), (2, 0)):
        path = toy_data.make_bank(Path(f"episodes/{ways}.h5"), episodes=1, shots=1, ways=ways)
        os.utime(path, (time.time() - age,) * 2)
    words = ("run", "toy_methods:Toy", "--weights", "random")
    assert recorded(*words).way == 2
    assert recorded(*words, "--dataset", "toy", "--ways", "1").way == 1
    assert "a bank of pascal5i with 1 ways" in refused(*words, "--dataset", "pascal5i", "--ways", "1")


def test_half_precision_on_a_cpu_is_recorded_and_moves_counts_a_little(bank: Path, tmp_path: Path) -> None:
    found = []
    for precision in ("fp32", "bf16"):
        (outcome,) = json.loads(fssbench(*run_toy(bank, tmp_path, "--device", "cpu", "--precision", precision)).out)
        found.append(read_record(Path(outcome["folder"])))
    assert [record.run.environment.precision for record in found] == ["fp32", "bf16"]
    full, half = (record.episodes["tp"] for record in found)
    assert 0 < (full - half).abs().sum() < 0.05 * full.sum()


def test_compiled_encoder_and_head_give_the_same_counts(bank: Path, tmp_path: Path, monkeypatch) -> None:
    """Traced as for any compiler, and carried out as it stands: the compiler itself is PyTorch's affair."""
    traced = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        traced.append({node.target for node in graph.graph.nodes})
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, compiled = (
        read_record(Path(json.loads(fssbench(*run_toy(bank, tmp_path / name, *more)).out)[0]["folder"])).episodes
        for name, more in (("plain", ()), ("compiled", ("--compile",)))
    )
    assert any(torch.conv2d in targets for targets in traced)
    assert any(torch.cosine_similarity in targets for targets in traced)
    assert compiled.equals(plain)


def test_every_option_of_run_reaches_the_run(tmp_path: Path, monkeypatch) -> None:
    asked: list[RunRequest] = []
    monkeypatch.delenv("FSSBENCH_BACKBONE", raising=False)
    monkeypatch.setattr(engine_run, "run_methods", lambda request, progress: asked.append(request) or [])
    words = ["run", "panet", "hsnet", "--bank", "b.h5", "--shots", "1", "5", "--folds", "2", "--set", "size=65,65"]
    words += ["--backbone", "resnet50", "--weights", "random", "--seed", "7", "--annotation", "box", "--out", "o"]
    words += ["--device", "cpu", "--precision", "bf16", "--batch", "3", "--encode-batch", "2", "--workers", "4"]
    words += ["--cache", "1MB", "--host-cache", "3MB", "--spill", "2MB", "--spill-folder", "s", "--channels-last"]
    words += ["--compile", "--force"]
    fssbench(*words, "--save-predictions", "--allow-contaminated")
    settings = Settings(
        torch.device("cpu"), "bf16", "box", workers=4, head_batch=3, encode_batch=2, cache_bytes=1 << 20,
        host_bytes=3 << 20, spill_folder=Path("s"), spill_bytes=2 << 20, channels_last=True, compile=True,
    )  # fmt: skip
    specs = [MethodSpec(name, ("size=65,65",), "resnet50", "random", 7) for name in ("panet", "hsnet")]
    assert asked == [RunRequest(specs, Path("b.h5"), settings, [1, 5], [2], Path("o"), True, True, True)]


def test_a_dry_run_says_what_would_run_and_how_long_and_writes_nothing(bank: Path, tmp_path: Path) -> None:
    """One fold is measured; the other record has as many episodes a second, and only what is not done is counted."""
    words = run_toy(bank, tmp_path, "--folds", "0")
    (new,) = json.loads(fssbench(*words, "--dry-run").out)
    assert (new["state"], new["episodes"], new["seconds"]) == ("new", 20, None)
    assert list(tmp_path.iterdir()) == []
    fssbench(*words)
    folder = Path(new["folder"])
    run = json.loads((folder / "run.json").read_text())
    run["seconds"] = {"head": 10.0}
    (folder / "run.json").write_text(json.dumps(run))
    one, five = json.loads(fssbench(*run_toy(bank, tmp_path, "--shots", "1", "5"), "--dry-run").out)
    assert one["measured_in"] == five["measured_in"] == run["id"]
    assert (five["episodes"], five["speed"], five["seconds"]) == (40, 2.0, 20.0)
    assert "finished already" in fssbench(*words[:-3], "--folds", "0", "--dry-run").out


def test_a_dry_run_counts_what_an_unfinished_run_has_done(bank: Path, tmp_path: Path, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fssbench.engine.job.Job.finish", stop)
    fssbench(*run_toy(bank, tmp_path, "--folds", "0"), status=130)
    (journal,) = tmp_path.rglob("journal")
    before = journal.read_bytes()
    done = fssbench(*run_toy(bank, tmp_path, "--folds", "0"), "--dry-run")
    (begun,) = json.loads(done.out)
    assert (begun["state"], begun["done"], begun["episodes"]) == ("begun", 20, 0)
    assert journal.read_bytes() == before
