"""What all commands have in common: help, list options, exit statuses, defaults from a file."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
import typer
from command_line import fresh, fssbench, refused
from repository import ROOT
from toy_data import few_shapes

from fssbench.cli.app import App, main, numbers
from fssbench.cli.grammar import Command
from fssbench.errors import MethodError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_groups_commands_by_what_they_act_on_everyday_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = fssbench("--help").out
    panels = [text.index(name) for name in ("─ Everyday", "─ Results", "─ Methods", "─ Episode banks", "─ Conversions")]
    assert panels == sorted(panels)
    assert text.index("generate-episodes") < text.index(" run ") < text.index(" report ") < text.index("─ Results")
    assert text.index("parity") > text.index("─ Conversions")


@pytest.mark.parametrize("command", ["", "run", "report", "compare", "audit", "leaderboard build", "show", "predict"])
def test_help_names_values_and_no_python_types(command: str) -> None:
    text = fssbench(*command.split(), "--help").out
    for leak in ("<list", "<bool>", "<path>", "<int", "<str>"):
        assert leak not in text
    assert "--quiet" in text and "-q" in text and "--verbose" in text


def test_defaults_in_brackets_reach_the_reader_of_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "[all of the bank]" in fssbench("run", "--help").out


@pytest.mark.parametrize(
    "words",
    ["--shots 1 5", "--shots=1 5", "--shots 1,5", "--shots=1,5", "--shots 1 --shots 5", "--shots 1, 5", "--shot 1 5"],
)
def test_every_way_to_write_a_list_means_the_same(words: str) -> None:
    assert parsed([*words.split(), "canet", "--force"]) == (["canet"], [1, 5], True)
    assert parsed(["canet", "--force", *words.split()]) == (["canet"], [1, 5], True)


def test_a_value_of_another_option_is_never_taken_for_a_list() -> None:
    assert parsed(["canet", "--note", "--shots", "--shots", "5"]) == (["canet"], [5], False)


def parsed(words: list[str]) -> tuple[list[str], list[int] | None, bool]:
    """What a command with list options makes of its words."""
    seen = []
    toy = App()

    @toy.command("toy", cls=Command)
    def _toy(
        methods: list[str] = typer.Argument(...),
        shots: list[str] | None = typer.Option(None, "--shots"),
        note: str = typer.Option("", "--note"),
        force: bool = typer.Option(False, "--force"),
    ) -> None:
        seen.append((methods, numbers(shots), force))

    toy(words, standalone_mode=False)
    (found,) = seen
    return found


@pytest.mark.parametrize("blocked", ["results", "results/x/y"])
def test_what_the_system_refuses_is_one_message_and_status_2(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "results").write_text("a file where a folder is asked for")
    words = ("generate-episodes", "shapes5i", "--episodes", "5", "--shots", "1", "--out", f"{blocked}/bank.h5")
    assert "results" in refused(*words)


def test_a_file_sets_defaults_that_the_command_line_overrides(tmp_path: Path) -> None:
    (tmp_path / "fssbench.toml").write_text('backbone = "resnet50"\nout = "runs"\n[run]\nshots = [1, 5]\n')
    shown = fssbench("run", "--show-config").out
    assert 'backbone = "resnet50"' in shown and 'out = "runs"' in shown and "fssbench.toml" in shown
    assert 'device = "auto"  # default' in shown
    assert "below runs" in refused("report")  # the folder of records, for those that read it
    assert "below other" in refused("report", "other")


def test_defaults_may_stand_in_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fssbench]\nout = "runs"\n[tool.other]\nx = 1\n')
    assert "below runs" in refused("report")
    assert 'out = "runs"' in fssbench("--show-config").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bakbone = "x"', "did you mean 'backbone'"),
        ("[rn]\nshots = [1]", "did you mean 'run'"),
        ("[run]\nshoots = [1]", "did you mean 'shots'"),
        ("shots = ", "expected TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_nearest_word(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fssbench.toml").write_text(text)
    for words in (["report"], ["--show-config"]):
        said = refused(*words)
        assert message in said and "fssbench.toml" in said


@pytest.mark.parametrize("words", ["--debug methods pannet", "methods pannet --debug"])
def test_debug_gives_the_error_with_its_traceback(words: str) -> None:
    with pytest.raises(MethodError, match="did you mean 'panet'"):
        main(words.split())
    assert "did you mean 'panet'" in refused("methods", "pannet")  # one message again: it held for that command only


def test_windows_is_told_at_once_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "needs Linux or macOS" in refused("methods")


def test_quiet_leaves_results_and_errors(tmp_path: Path) -> None:
    assert "nowhere.h5" in refused("show", "nowhere.h5", "--sheet", "1", "-q")
    with few_shapes():
        words = ("--episodes", "5", "--shots", "1", "--workers", "1", "-q", "-o", "bank.h5")
        made = fssbench("generate-episodes", "shapes5i", *words)
    assert made.err == "" and (tmp_path / "bank.h5").is_file()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rep", ["report", "reproduce"]),
        ("run pan", ["panet"]),
        ("train --dataset shap", ["shapes5i"]),
        ("doctor coco2", ["coco20i"]),
    ],
)
def test_shell_completion_offers_commands_methods_and_data_sets(typed: str, offered: list[str]) -> None:
    code = "import sys; sys.argv[0] = 'fssbench'; from fssbench.cli import main; main()"
    words = f"fssbench {typed}"
    asked = {"_FSSBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed.split()))}
    assert fresh([sys.executable, "-c", code], **asked).out.split() == offered


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert fssbench("--version").out == f"fssbench {project['version']}\n"
