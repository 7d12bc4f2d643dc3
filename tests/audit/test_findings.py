"""What an audit finds, and what it lets pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import fssbench
from repository import ROOT
from synthetic_records import rewrite

from fssbench.audit.judge import audit
from fssbench.records import Record, find_records, read_run

Make = Callable[..., Record]


def test_external_masks_pass_the_audit(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", weights="external")
    assert audit(tmp_path).findings == ()


def test_the_audit_of_this_repositorys_results_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows on rendered figures are judged against their bank's index; photographs' banks stay with their owners."""
    monkeypatch.chdir(ROOT)
    judged = json.loads(fssbench("audit", "--json").out)
    rendered = {
        run.bank.fingerprint for path in find_records(Path("results/lite/shapes5i")) for run in [read_run(path)]
    }
    assert rendered and not rendered & set(judged["unjudged"])


def test_numbers_that_no_machine_explains_are_a_finding(make_record: Make, tmp_path: Path) -> None:
    iou = dict.fromkeys(range(4), 0.5)
    make_record(tmp_path / "first", fold_iou=iou)
    again = make_record(tmp_path / "second", fold_iou=iou | {2: 0.6})
    rewrite(again, environment=again.run.environment.model_copy(update={"host": "elsewhere"}))
    (found,) = audit(tmp_path).findings
    assert found.file == "second/run.json" and "near 50.00, found 60.00" in found.problem
