"""`fssbench conformance`: a table, a status, and a method that fails in its own way."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from command_line import fssbench, refused

from fssbench import plugins, registry


def test_a_method_that_keeps_the_contract_passes_the_checks_asked_for() -> None:
    result = fssbench("conformance", "panet", "--only", "shapes", "--only", "cache")
    assert "2 of 2 checks pass" in result.out
    assert "checked with backbone=efficientnet_lite0" in result.out


def test_a_method_that_raises_fails_that_check_and_the_others_are_run() -> None:
    words = ("conformance", "toy_methods:ToyRaises", "--backbone", "toy", "--only", "shapes")
    rows = json.loads(fssbench(*words, "--only", "encode_is_pure", "--json", status=1).out)
    assert [row["passed"] for row in rows] == [False, False]
    assert "ZeroDivisionError: a bug in the head" in rows[0]["problem"]


def test_a_check_that_does_not_exist_is_named() -> None:
    assert "did you mean 'shapes'" in refused("conformance", "panet", "--only", "shape")


def test_a_new_method_runs_and_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fssbench("new-method", "own_proto")
    assert sorted(file.name for file in (tmp_path / "own_proto").iterdir()) == [
        "own_proto.py", "pyproject.toml", "test_own_proto.py",
    ]  # fmt: skip
    project = tomllib.loads((tmp_path / "own_proto" / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["fssbench.methods"] == {"own_proto": "own_proto:OwnProto"}
    checks = ["--only", "shapes", "--only", "gradients", "--only", "cache", "--only", "empty_support"]
    assert "4 of 4 checks pass" in fssbench("conformance", "own_proto/own_proto.py:OwnProto", *checks).out


@pytest.mark.parametrize(
    ("name", "words"),
    [("panet", "a method or module already"), ("json", "already"), ("My-Method", "lower-case"), ("taken", "exists")],
)
def test_a_new_method_takes_no_name_and_no_folder_that_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "taken.py").write_text("mine")
    assert words in refused("new-method", name)
    assert (tmp_path / "taken" / "taken.py").read_text() == "mine"


def test_a_broken_entry_point_hides_no_other_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_broken_point.py").write_text("raise RuntimeError('at import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken = EntryPoint("own_broken_point", "own_broken_point:Own", registry.METHODS.group)
    monkeypatch.setattr(
        plugins, "entry_points", lambda group, name=None: [broken] if name in (None, broken.name) else []
    )
    result = fssbench("methods")
    assert "PANet" in result.out
    assert "RuntimeError: at import" in result.err
