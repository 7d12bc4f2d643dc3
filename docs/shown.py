"""What pages show of the code is what the code is: `<!-- [[[cog table("report results/lite") ]]] -->` and the like.

`make pages` renews it by cog (https://cog.readthedocs.io), so that it is there in any reader of the file, GitHub's too;
a test holds the pages to it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
from pathlib import Path

import cog

from fssbench.cli import main
from fssbench.protocols import PROTOCOLS
from fssbench.records import find_records, read_record
from fssbench.reports.pictures.plots import size_curve


def table(words: str, *, title: bool = False) -> None:
    """What `fssbench WORDS` prints to stdout, without the heading of its table unless asked for."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main(words.split())
        except SystemExit as ending:
            if ending.code:
                raise RuntimeError(f"fssbench {words}: exit status {ending.code}") from ending
    text = out.getvalue().strip()
    cog.outl("\n" + (text if title else text.split("\n", 1)[1].strip()) + "\n")


def source(path: str) -> None:
    """A Python file of the repository, whole."""
    cog.outl(f"\n```python\n{Path(path).read_text(encoding='utf-8').strip()}\n```\n")


def fields(*classes: str) -> None:
    """The fields of classes, given as `module.Class`: their source up to the first method."""
    for path in classes:
        module, _, name = path.rpartition(".")
        whole = inspect.getsource(getattr(importlib.import_module(module), name))
        cog.outl("\n```python\n" + re.split(r"\n    (?=@|def )", whole)[0].strip() + "\n```\n")


def assignment(path: str, name: str) -> None:
    """The statement of a Python file that gives a name of the module its value."""
    text = Path(path).read_text(encoding="utf-8")
    found = (s for s in ast.parse(text).body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == name)
    cog.outl(f"\n```python\n{ast.get_source_segment(text, next(found))}\n```\n")


def protocols() -> None:
    """The names of the protocols."""
    cog.outl("\n`--protocol`: " + ", ".join(f"`{name}`" for name in PROTOCOLS) + ".\n")


def docstring(module: str) -> None:
    """What a module says of itself."""
    cog.outl("\n" + (inspect.getdoc(importlib.import_module(module)) or "").strip() + "\n")


def sizes(folder: str, methods: str, bins: int = 5) -> None:
    """Pooled IoU of trained methods by the object's share of its image, in bins of equal numbers of 1-shot episodes."""
    curves = {}
    for record in map(read_record, find_records(Path(folder))):
        run, name = record.run, record.run.method.name
        trained = all(entry.kind == "checkpoint" for entry in run.weights.values())
        if run.shot == 1 and run.seed == 0 and trained and name in methods.split():
            curves[name] = size_curve(record.episodes, bins)
    shares = next(iter(curves.values())).size
    cog.outl(
        "\n| trained, 1 shot; object's share of the image, about | "
        + " | ".join(f"{share:.1%}" for share in shares)
        + " |"
    )
    cog.outl("|" + " --- |" * (len(shares) + 1))
    for name in methods.split():
        cog.outl(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in curves[name].value) + " |")
    cog.outl("")
