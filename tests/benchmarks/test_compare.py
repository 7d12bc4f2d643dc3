"""`benchmarks/compare.py`: two runs of a benchmark, figure by figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from repository import ROOT

SCRIPT = ROOT / "benchmarks" / "compare.py"


def compared(folder: Path, before: Any, after: Any) -> subprocess.CompletedProcess[str]:
    """The command on two values, written as JSON."""
    for name, value in (("before", before), ("after", after)):
        (folder / name).write_text(json.dumps(value))
    command = [sys.executable, str(SCRIPT), "before", "after"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_rows_are_matched_by_their_texts_and_printed_with_the_ratio(tmp_path: Path) -> None:
    before = [{"method": "panet", "s": 2.0, "parts": {"head": 4}}, {"method": "ssp", "s": 8.0, "same": True}]
    after = [{"method": "ssp", "s": 2.0, "same": True}, {"method": "panet", "s": 3.0, "parts": {"head": 1}}]
    done = compared(tmp_path, before, after)
    assert done.returncode == 0, done.stderr
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert cells == [
        ["panet s", "2", "3", "1.50"],
        ["panet parts head", "4", "1", "0.25"],
        ["ssp s", "8", "2", "0.25"],
    ]


def test_rows_with_the_same_texts_are_matched_by_their_order_and_what_is_missing_is_named(tmp_path: Path) -> None:
    before = [{"what": "generate", "s": 1.0}, {"what": "generate", "s": 5.0}, {"what": "verify", "s": 0}]
    after = [{"what": "generate", "s": 2.0}, {"what": "verify", "s": 3.0}, {"what": "attach", "s": 4.0}]
    done = compared(tmp_path, before, after)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line][2:]
    assert cells == [["generate s", "1", "2", "2.00"], ["verify s", "0", "3", ""]]
    assert "only in before: generate #2 s" in done.stdout
    assert "only in after: attach s" in done.stdout


def test_numbers_in_a_list_go_by_their_place(tmp_path: Path) -> None:
    done = compared(tmp_path, {"s": [1, 4]}, {"s": [2, 2]})
    assert [line.split()[1:4] for line in done.stdout.splitlines()[2:]] == [["s", "#1", "|"], ["s", "#2", "|"]]


def test_files_without_a_common_figure_and_files_that_are_no_json_end_with_a_status(tmp_path: Path) -> None:
    assert compared(tmp_path, {"a": 1}, {"b": 1}).returncode == 1
    (tmp_path / "text").write_text("12 s")
    command = [sys.executable, str(SCRIPT), "text", "after"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("text: expected the JSON that a benchmark writes by --out")
