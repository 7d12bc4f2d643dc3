"""`fssbench conformance`: a table, a status, and a method that fails in its own way."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from fssbench.cli import commands  # noqa: F401
from fssbench.cli.app import app


def test_a_method_that_keeps_the_contract_passes_the_checks_asked_for() -> None:
    result = CliRunner().invoke(app, ["conformance", "panet", "--only", "shapes", "--only", "cache"])
    assert result.exit_code == 0, result.output
    assert "2 of 2 checks pass" in result.stdout
    assert "checked with backbone=efficientnet_lite0" in result.stdout


def test_a_method_that_raises_fails_that_check_and_the_others_are_run() -> None:
    words = [
        "conformance",
        "toy_methods:ToyRaises",
        "--backbone",
        "toy",
        "--only",
        "shapes",
        "--only",
        "encode_is_pure",
    ]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [row["passed"] for row in rows] == [False, False]
    assert "ZeroDivisionError: a bug in the head" in rows[0]["problem"]


def test_a_check_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(app, ["conformance", "panet", "--only", "shape"])
    assert result.exit_code != 0
    assert "did you mean 'shapes'" in str(result.exception)
