"""`fssbench report` and `fssbench compare` as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, fresh, fssbench, refused
from synthetic_records import make_record


def without(library: str, *words: object) -> Done:
    """Run the command in a process of its own; it fails if the library was imported."""
    code = (
        "import sys\nfrom fssbench.cli import main\ntry:\n    main()\nfinally:\n"
        f"    assert {library!r} not in sys.modules, '{library} was imported'\n"
    )
    return fresh([sys.executable, "-c", code, *map(str, words)])


def write(folder: Path, method: str, *, iou: float = 0.7, **options: Any) -> Path:
    """A record of one fold, one class and one episode."""
    one = {"folds": [0], "bank_folds": [0], "classes_per_fold": 1, "episodes": 1}
    return make_record(folder, method, fold_iou={0: iou}, **one, **options).path


def test_the_report_goes_to_stdout_and_imports_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    done = without("torch", "report", tmp_path, "--with-published", "--intervals", "--protocol", "pfenet")
    assert "70.0" in done.out and done.err == ""


def test_a_report_without_intervals_imports_no_scipy(tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    for words in ((), ("--with-published", "--protocol", "pfenet"), ("--per-class", "-f", "csv")):
        assert without("scipy", "report", tmp_path, *words).out


@pytest.mark.parametrize("name", ["markdown", "latex", "html", "csv", "json"])
def test_every_format_can_be_asked_for(name: str, tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    assert "panet" in fssbench("report", tmp_path, "--format", name).out


def test_json_can_be_asked_for_as_everywhere_else(tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    assert json.loads(fssbench("report", tmp_path, "--json").out)["tables"][0]["rows"][0]["method"] == "panet"


def test_output_is_not_overwritten_without_force(tmp_path: Path) -> None:
    write(tmp_path / "results" / "a", "panet")
    out = tmp_path / "table.md"
    out.write_text("mine", encoding="utf-8")
    assert "--force" in refused("report", tmp_path / "results", "--out", out)
    assert out.read_text(encoding="utf-8") == "mine"
    fssbench("report", tmp_path / "results", "--out", out, "--force")
    assert "panet" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "nowhere"], "no finished record"),
        (["report", "a", "--protocol", "pfnet"], "did you mean 'pfenet'"),
        (["report", "a", "--shots", "3"], "no record has --shots 3"),
        (["compare", "a"], "at least two results"),
    ],
)
def test_mistakes_are_one_message_and_status_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", "panet")
    monkeypatch.chdir(tmp_path)
    assert message in refused(*words)


def test_compare_prints_which_is_better(tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    write(tmp_path / "b", "hsnet", iou=0.4)
    assert "+30.0" in fssbench("compare", tmp_path / "a", tmp_path / "b").out


def test_a_report_without_intervals_reads_every_run_once_and_no_rows(tmp_path: Path) -> None:
    """What makes the report of a thousand records a matter of seconds."""
    for number in range(6):
        write(tmp_path / f"r{number}", f"method{number // 2}", shot=(1, 5)[number % 2])
    code = (
        "import sys\nfrom fssbench.cli import main\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "try:\n    main()\nfinally:\n"
        "    print(*(name for name in opened if name.endswith(('run.json', '.csv.gz'))), sep='\\n', file=sys.stderr)\n"
    )
    done = fresh([sys.executable, "-c", code, "report", str(tmp_path)])
    assert done.out.count("method") == 3
    assert sorted(done.err.split()) == [str(tmp_path / f"r{number}" / "run.json") for number in range(6)]
