"""`fssbench audit`: a sound record passes, and every way to be wrong is one line that names file and field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import fssbench

from fssbench.audit.judge import Audit, audit

Make = Callable[..., Any]


@pytest.fixture
def record(make_record: Make, tmp_path: Path) -> Path:
    """A sound record of two folds, 2-way 2-shot."""
    make_record(tmp_path / "results" / "r", way=2, shot=2, folds=(0, 1), bank_folds=(0, 1), episodes=6)
    return tmp_path / "results" / "r"


def change_run(record: Path, *keys: str, value: Any) -> None:
    """Set one field of run.json, however deep."""
    run = json.loads((record / "run.json").read_text())
    place = run
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (record / "run.json").write_text(json.dumps(run))


def change_rows(record: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Rewrite episodes.csv.gz; `change` works in place or returns another frame."""
    rows = pd.read_csv(record / "episodes.csv.gz", dtype=str)
    other = change(rows)
    (rows if other is None else other).to_csv(record / "episodes.csv.gz", index=False)


def cell(name: str, value: str, row: int = 0) -> Callable[[pd.DataFrame], None]:
    def change(rows: pd.DataFrame) -> None:
        rows.loc[row, name] = value

    return change


def places(found: Audit) -> list[tuple[str, str]]:
    return [(finding.file, finding.field) for finding in found.findings]


def test_a_sound_record_has_no_finding(record: Path) -> None:
    assert audit(record.parent).findings == ()
    assert audit(record.parent).records == 1
    assert audit(record).findings == ()


def test_a_record_with_background_rows_and_several_runs_has_no_finding(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "runs", runs=2, episodes=5)
    assert audit(tmp_path).findings == ()


@pytest.mark.parametrize(
    ("keys", "value", "field"),
    [
        (["id"], "another", "id"),
        (["created"], "yesterday", "created"),
        (["created"], "2026-01-01T00:00:00+02:00", "created"),
        (["schema_version"], 99, "schema_version"),
        (["shot"], 0, "shot"),
        (["folds"], [0, 1, 7], "folds"),
        (["folds"], [0, 0, 1], "folds"),
        (["weights"], {}, "weights.0"),
        (["weights", "0", "sha256"], "abc", "weights.0.sha256"),
        (["weights", "0", "kind"], "magic", "weights.0.kind"),
        (["bank", "fingerprint"], "0123", "bank.fingerprint"),
        (["bank", "class_names"], {}, "bank.folds.0"),
        (["bank", "complete"], False, "bank.note"),
        (["seconds"], {"encode": -1.0}, "seconds.encode"),
        (["method", "config"], {"alpha": float("nan")}, "method.config.alpha"),
        (["summary", "miou"], 0.999, "summary.miou"),
        (["summary", "folds", "0", "classes", "1"], 0.999, "summary.folds.0.classes.1"),
        (["summary", "rank"], 1, "summary.rank"),
        (["bank", "protocol", "min_area"], 1, "bank.protocol_hash"),
        (["bank", "protocol", "scoring"], "wrong", "bank.protocol"),
        (["surprise"], 1, "surprise"),
        (["method", "name"], None, "method.name"),
    ],
)
def test_a_wrong_value_in_run_json_is_found_where_it_is(record: Path, keys: list[str], value: Any, field: str) -> None:
    change_run(record, *keys, value=value)
    assert ("r/run.json", field) in places(audit(record.parent))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (cell("tp", "-3"), "tp"),
        (cell("tp", "12.5"), "tp"),
        (cell("fn", ""), "fn"),
        (cell("tp", "99999999999999999999"), "tp"),
        (cell("fold", "3"), "fold"),
        (cell("class_id", "6"), "class_id"),
        (cell("way", "3"), "way"),
        (cell("query", ""), "query"),
        (cell("supports", "a"), "supports"),
        (cell("supports", "a|a"), "supports"),
        (lambda rows: cell("supports", f"x|{rows.loc[0, 'query']}")(rows), "supports"),
        (lambda rows: rows.iloc[2:], "episode"),
        (lambda rows: rows.iloc[1:], "way"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "episode"),
        (lambda rows: rows.rename(columns={"tp": "true"}), "header"),
    ],
)
def test_an_impossible_row_is_found(record: Path, change: Callable[[pd.DataFrame], Any], field: str) -> None:
    change_rows(record, change)
    assert ("r/episodes.csv.gz", field) in places(audit(record.parent))


def test_one_pixel_moved_from_missed_to_found_contradicts_the_summary(record: Path) -> None:
    def improve(rows: pd.DataFrame) -> None:
        rows.loc[0, "tp"] = str(int(rows.loc[0, "tp"]) + 1)
        rows.loc[0, "fn"] = str(int(rows.loc[0, "fn"]) - 1)

    change_rows(record, improve)
    found = places(audit(record.parent))
    assert ("r/run.json", "summary.miou") in found
    assert all(file == "r/run.json" for file, _ in found)


def test_a_pixel_too_many_is_found_where_the_query_comes_again(make_record: Make, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    rows = make_record(folder, episodes=60).episodes
    again = rows.index[rows.duplicated("query")][0]
    change_rows(folder, cell("tn", str(rows.loc[again, "tn"] + 1), again))
    assert ("episodes.csv.gz", "the six counts") in places(audit(folder))


def test_ways_that_claim_more_pixels_than_there_are_are_found(record: Path) -> None:
    def greedy(rows: pd.DataFrame) -> None:
        for row in (0, 1):  # each way takes all the background there is
            rows.loc[row, "fp"] = str(int(rows.loc[row, "fp"]) + int(rows.loc[row, "tn"]))
            rows.loc[row, "tn"] = "0"

    change_rows(record, greedy)
    assert ("r/episodes.csv.gz", "tp + fp") in places(audit(record.parent))


@pytest.mark.parametrize("missing", ["run.json", "episodes.csv.gz"])
def test_half_a_record_is_found(record: Path, missing: str) -> None:
    (record / missing).unlink()
    assert (f"r/{missing}", "file") in places(audit(record.parent))


def test_a_file_that_is_no_json_is_one_finding(record: Path) -> None:
    (record / "run.json").write_text("{")
    assert [file for file, _ in places(audit(record.parent))] == ["r/run.json"]


def test_a_copied_record_is_a_duplicate(record: Path) -> None:
    shutil.copytree(record, record.parent / "copy" / "r")
    problems = {finding.field for finding in audit(record.parent).findings}
    assert problems == {"id", "method"}


def test_equal_counts_under_another_method_are_found(record: Path) -> None:
    shutil.copytree(record, record.parent / "stolen")
    change_run(record.parent / "stolen", "id", value="stolen")
    change_run(record.parent / "stolen", "method", "name", value="mine")
    found = audit(record.parent).findings
    assert [(f.file, f.field) for f in found] == [("stolen/episodes.csv.gz", "file")]
    assert "equal to that of r" in found[0].problem


def test_text_from_a_record_cannot_steer_the_terminal(record: Path) -> None:
    change_run(record, "id", value="\x1b[2J\nall is well")
    (line,) = [str(finding) for finding in audit(record.parent).findings]
    assert "\n" not in line
    assert "\x1b" not in line


def test_the_command_exits_with_1_for_a_finding_and_0_without(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no folder `episodes` lies
    fssbench("audit", record.parent)
    change_run(record, "summary", "miou", value=1.0)
    printed = json.loads(fssbench("audit", record.parent, "--json", status=1).out)
    assert printed["records"] == 1
    assert printed["findings"][0] | {"problem": ""} == {"file": "r/run.json", "field": "summary.miou", "problem": ""}


def test_an_audit_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    assert "no record" in fssbench("audit", tmp_path, status=2).err
    fssbench("audit", tmp_path / "nowhere", status=2)
