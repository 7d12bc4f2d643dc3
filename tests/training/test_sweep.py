"""`fssbench sweep`: makes what a file asks for and lacks, in order, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fssbench

from fssbench.errors import UsageError
from fssbench.records import find_records, read_run
from fssbench.training import sweep as module
from fssbench.training.request import recipe_settings
from fssbench.training.sweep import carry_out, read_sweep, tasks


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sweep.toml"
    path.write_text(
        'methods = ["toy_training:Learner"]\nbackbone = "toy"\nrecipe = "paper"\nsteps = 2\nshots = [1, 2]\n'
        'out = "results"\nuntrained = false\n'
        '[[data]]\ndataset = "folder"\nfolds = [0, 1]\nbank = "bank.h5"\nepisodes = 4\n'
    )
    return path


def test_a_sweep_ends_with_a_record_of_every_shot_whose_folds_have_a_checkpoint_each(
    file: Path, own_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = read_sweep(file)
    assert carry_out(sweep, own_images, print) == []
    runs = [read_run(folder) for folder in find_records(Path("results"))]
    assert sorted(run.shot for run in runs) == [1, 2]
    for run in runs:
        classes = {f: set(e.regime.classes.values()) for f, e in run.weights.items() if e.regime and e.regime.classes}
        assert classes == {0: {"c", "d"}, 1: {"a", "b"}}
    assert all(task.done for task in tasks(sweep))
    made: list[object] = []
    monkeypatch.setattr(module, "_make", lambda *task: made.append(task))
    carry_out(sweep, own_images, print)
    assert made == []
    next(Path("checkpoints").rglob("*fold1/last.safetensors")).unlink()  # a training that was cut off
    assert [(t.kind, t.folds) for t in tasks(sweep) if not t.done] == [("train", (1,)), ("run", (0, 1))]


def test_what_fails_takes_with_it_only_what_is_built_on_it(
    file: Path, own_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fssbench.errors import MethodError

    made: list[str] = []

    def make(_: object, task: module.Task, *__: object) -> None:
        made.append(str(task))
        if task.kind == "train" and task.folds == (0,):
            raise MethodError("it burst")

    monkeypatch.setattr(module, "_make", make)
    file.write_text(file.read_text().replace('["toy', '["panet", "toy').replace("untrained = false", ""))
    failed = carry_out(read_sweep(file), own_images, print)
    assert [str(task) for task, _ in failed] == [
        f"train {name} on folder, fold 0" for name in ("panet", "toy_training:Learner")
    ]
    assert not [name for name in made if name.endswith(" trained")]
    assert "run toy_training:Learner on folder, folds 0 1, untrained" in made


def test_a_dry_run_makes_nothing_and_a_wrong_field_is_named(file: Path) -> None:
    done = fssbench("sweep", file, "--dry-run")
    assert done.out.splitlines() == [
        "bank bank.h5",
        "train toy_training:Learner on folder, fold 0",
        "train toy_training:Learner on folder, fold 1",
        "run toy_training:Learner on folder, folds 0 1, trained",
        "0 of 4 done",
        "cost: nothing measured yet under results",
    ]
    assert {path.name for path in Path().iterdir()} == {"sweep.toml"}
    file.write_text(file.read_text().replace("episodes = 4", "episode = 4"))
    assert "data.0.episode" in fssbench("sweep", file, status=2).said


def test_a_data_set_has_its_own_steps_and_may_leave_untrained_records_out(
    file: Path, own_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text().replace("untrained = false", "untrained = true").replace("folds = [0, 1]", "folds = [0]")
    file.write_text(text + "steps = 3\n" + text.partition("[[data]]")[2].join(["[[data]]", "untrained = false\n"]))
    sweep = read_sweep(file)
    assert [(t.kind, t.weights is None) for t in tasks(sweep)] == [
        ("bank", True), ("run", True), ("train", True), ("run", False), ("bank", True), ("train", True), ("run", False),
    ]  # fmt: skip
    monkeypatch.setattr(module, "_run", lambda *_: None)
    first = tasks(sweep)[2]
    carry_out(sweep.model_copy(update={"data": (first.data,)}), own_images, print)
    (log,) = Path("checkpoints").rglob("log.csv")
    assert len(log.read_text().splitlines()) == 1 + 3


def test_a_data_set_may_have_fewer_methods_and_other_seeds(file: Path) -> None:
    text = 'training_free = ["prototype"]\n' + file.read_text().replace('["toy', '["panet", "toy')
    again = text.partition("[[data]]")[2]
    file.write_text(text + "[[data]]" + again + 'methods = ["panet"]\nseeds = [1, 2]\n')
    assert [str(task) for task in tasks(read_sweep(file))][8:] == [
        "bank bank.h5",
        *(
            line
            for seed in (1, 2)
            for line in (
                f"train panet on folder, fold 0, seed {seed}",
                f"train panet on folder, fold 1, seed {seed}",
                f"run panet on folder, folds 0 1, trained, seed {seed}",
            )
        ),
    ]
    file.write_text(file.read_text().replace('methods = ["panet"]\nseeds', 'methods = ["pamet"]\nseeds'))
    with pytest.raises(UsageError, match=r"'pamet'.*did you mean 'panet'"):
        read_sweep(file)


def test_a_sweep_may_train_nothing_but_must_name_a_method(file: Path) -> None:
    text = file.read_text().partition("\n")[2]
    file.write_text('training_free = ["prototype"]\n' + text)
    assert [task.kind for task in tasks(read_sweep(file))] == ["bank", "run"]
    file.write_text(text)
    with pytest.raises(UsageError, match="expected methods"):
        read_sweep(file)


def test_a_part_of_a_sweep_keeps_its_order_and_knows_its_methods(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'methods = ["panet", "canet", "ssp"]\nbackbone = "efficientnet_lite0"\nout = "r"\n'
        '[[data]]\ndataset = "shapes5i"\nfolds = [0]\nbank = "b.h5"\n',
        encoding="utf-8",
    )
    sweep = read_sweep(path)
    assert sweep.only(["ssp", "panet"]).methods == ("panet", "ssp")
    assert sweep.only([]) == sweep
    with pytest.raises(UsageError, match="method of the sweep"):
        sweep.only(["panets"])


def test_a_training_free_method_is_run_as_it_is_with_the_sweeps_settings(file: Path, own_images: Path) -> None:
    free = 'training_free = ["prototype"]\nsettings = ["size=33,33"]\n'
    file.write_text(free + file.read_text().replace('"toy"', '"efficientnet_lite0"'))
    sweep = read_sweep(file).only(["prototype"])
    assert [str(task) for task in tasks(sweep)] == ["bank bank.h5", "run prototype on folder, folds 0 1, untrained"]
    assert carry_out(sweep, own_images, print) == []
    runs = [read_run(folder) for folder in find_records(Path("results"))]
    assert [(run.method.name, run.shot, run.method.config["size"]) for run in runs] == [
        ("prototype", k, [33, 33]) for k in (1, 2)
    ]
    assert all(task.done for task in tasks(sweep))


def test_settings_are_those_of_the_file_the_recipe_or_the_checkpoint(file: Path) -> None:
    free = 'training_free = ["prototype"]\nsettings = ["size=33,33"]\n'
    text = file.read_text().replace("toy_training:Learner", "pfenet").replace('"paper"', '"lite"')
    file.write_text(free + text.replace('"toy"', '"efficientnet_lite0"').replace("untrained = false", ""))
    sweep = read_sweep(file)
    runs = [module.run_request(sweep, task).methods[0] for task in tasks(sweep) if task.kind == "run"]
    of_recipe = recipe_settings("pfenet", "lite")
    assert of_recipe
    assert {(spec.name, spec.weights == "imagenet"): spec.settings for spec in runs} == {
        ("prototype", True): ("size=33,33",), ("pfenet", True): of_recipe, ("pfenet", False): (),
    }  # fmt: skip
