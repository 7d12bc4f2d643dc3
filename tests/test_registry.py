"""Names of methods: found, suggested, and never taken from somebody else's folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import toy_methods
from command_line import fresh, line
from repository import ROOT

from fssbench.errors import MethodError
from fssbench.method import Method
from fssbench.registry import BUILT_IN, find_method, method_names


def test_every_method_in_the_folder_is_in_the_table() -> None:
    """A class of `methods/` that says what it is (`info`) is a method; forgetting its line in the table shows here."""
    found = set()
    for file in (ROOT / "methods").glob("[!_]*.py"):
        module = importlib.import_module(f"methods.{file.stem}")
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__ and issubclass(cls, Method):
                found |= {f"{module.__name__}:{cls.__name__}"} if "info" in vars(cls) else set()
    assert found == set(BUILT_IN.values())
    assert set(method_names()) >= set(BUILT_IN)


def test_a_plug_in_is_found_by_module_and_class() -> None:
    assert find_method("toy_methods:Toy") is toy_methods.Toy


def test_an_installed_plug_in_goes_by_the_name_of_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "tiny-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[fssbench.methods]\ntiniest = toy_methods:ToyVote\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "tiniest" in method_names()
    assert find_method("tiniest") is toy_methods.ToyVote


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pannet", "did you mean 'panet'"),
        ("toy_methods:Toyy", "found nothing of that name"),
        ("no_such_module:X", "could not be imported"),
        ("toy_methods:_info", "subclass of"),
    ],
)
def test_a_name_that_is_no_method_says_why(name: str, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        find_method(name)


def test_a_users_own_folder_called_methods_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("")
    code = (
        "import sys; sys.path[:0] = ['.', sys.argv[1]]\n"
        "from fssbench.registry import find_method\n"
        "from fssbench.errors import MethodError\n"
        "try: find_method('panet')\n"
        "except MethodError as error: print(error)\n"
    )
    said = fresh([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path).out
    assert "the package 'methods' is not fssbench's" in said


def test_the_table_of_names_is_in_order() -> None:
    assert list(BUILT_IN) == sorted(BUILT_IN)


TINY = "from fssbench.method import Method, MethodConfig, MethodInfo\n"
WHOLE = TINY + (
    "class Own(Method):\n    info = MethodInfo('Own', 'p', 'v', 2026, '', None, ())\n    Config = MethodConfig\n"
)


def test_a_method_is_found_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "own_in_file.py").write_text(WHOLE)
    target = f"{tmp_path / 'own_in_file.py'}:Own"
    assert find_method(target).info.title == "Own"
    assert find_method(target) is find_method(target)


def test_a_module_beside_the_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_beside.py").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert find_method("own_beside:Own").info.title == "Own"
    assert sys.path[-1] == str(tmp_path)  # last: nothing there hides what is installed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Own(:\n", "SyntaxError"),
        ("x = 1\nnobody_knows\n", r"NameError: .*nobody_knows.*own_broken\.py, line 2"),
        ("raise RuntimeError('no GPU')\n", "RuntimeError: no GPU"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("import no_such_package\n", "No module named 'no_such_package'"),
        (WHOLE.replace("Own(", "Other("), r"found nothing of that name \(it has Other\)"),
        (TINY + "class Own(Method):\n    Config = MethodConfig\n", "to say its info"),
    ],
)
def test_a_broken_plug_in_is_one_message(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "own_broken.py").write_text(text)
    try:
        with pytest.raises(MethodError, match=words):
            find_method(f"{tmp_path / 'own_broken.py'}:Own")
    finally:
        sys.modules.pop("own_broken", None)


def test_a_file_does_not_take_the_name_of_a_loaded_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(WHOLE)
    with pytest.raises(MethodError, match="'json' is loaded already: rename"):
        find_method(f"{tmp_path / 'json.py'}:Own")


def test_python_m_fssbench_is_the_command() -> None:
    assert "generate-episodes" in fresh(line("--help")).out
