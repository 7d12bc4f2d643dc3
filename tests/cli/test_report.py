"""`fssbench report` and `fssbench compare` as a user runs them."""

from __future__ import annotations

import gzip
import json
import resource
import sys
from pathlib import Path

import pytest
from command_line import Done, fresh, fssbench, refused

from fssbench.protocols import FSSBENCH
from fssbench.records import COLUMNS, BankEntry, Environment, MethodEntry, Run, WeightsEntry

COUNTS = "8,1,2,89,0,0"


def without_torch(*words: object) -> Done:
    """Run the command in a process of its own; it fails if torch was imported."""
    code = (
        "import sys\nfrom fssbench.cli import main\ntry:\n    main()\nfinally:\n"
        "    assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    return fresh([sys.executable, "-c", code, *map(str, words)])


def write(folder: Path, method: str, *, shot: int = 1, counts: str = COUNTS, seed: int = 0) -> Path:
    """A record of one fold, one class and one episode."""
    summary = {
        "miou": 8 / 11, "miou_std": None, "fb_iou": 0.8, "fb_iou_std": None, "episodes": 1, "runs": 1,
        "missing_folds": [], "rules": {},
        "folds": {"0": {"miou": 8 / 11, "fb_iou": 0.8, "fg_iou": 0.7, "bg_iou": 0.9, "episodes": 1,
                        "classes": {"7": 8 / 11}, "absent": [], "vanished": 0}},
    }  # fmt: skip
    run = Run(
        id=folder.name, created="2026-01-01T00:00:00Z", method=MethodEntry(name=method, title=method, config={}),
        backbone="resnet50", input_size="native", weights={0: WeightsEntry(kind="imagenet", sha256="0" * 64)},
        bank=BankEntry(fingerprint="f" * 64, dataset="fss1000", protocol=FSSBENCH.model_dump(mode="json"),
                       protocol_hash=FSSBENCH.hash, class_names={7: "owl"}, folds={0: [7]}, episodes={0: 1}),
        way=1, shot=shot, folds=[0], seed=seed,
        environment=Environment(device="cpu", precision="float32", versions={}), summary=summary,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (folder / "episodes.csv.gz").write_bytes(gzip.compress(f"{','.join(COLUMNS)}\n0,0,0,0,1,7,q,s,{counts}\n".encode()))
    return folder


def test_the_report_goes_to_stdout_and_imports_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "a", "panet")
    done = without_torch("report", tmp_path, "--with-published", "--intervals", "--protocol", "pfenet")
    assert "72.7" in done.out and done.err == ""


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
    write(tmp_path / "b", "hsnet", counts="4,1,6,89,0,0")
    assert "+36.4" in fssbench("compare", tmp_path / "a", tmp_path / "b").out  # 8/11 - 4/11


def test_a_thousand_records_take_less_than_five_seconds(tmp_path: Path) -> None:
    for number in range(1000):
        write(tmp_path / f"r{number}", f"method{number // 10}", shot=1 + number % 2, seed=number // 2)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = without_torch("report", tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.out.count("method") == 100
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
