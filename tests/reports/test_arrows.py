"""The folders of `fssbench/reports` are steps: what stands later in the list imports what stands before, never back."""

from __future__ import annotations

import re
from pathlib import Path

import fssbench.reports

STEPS = ("entries", "papers", "studies", "tables", "formats", "render", "pictures", "board")


def test_a_step_imports_only_the_steps_before_it() -> None:
    root = Path(next(iter(fssbench.reports.__path__)))
    wrong = [
        f"{path.relative_to(root)} imports {other}"
        for path in root.rglob("*.py")
        if path.parent != root or path.stem != "__init__"
        for step in [path.relative_to(root).parts[0].removesuffix(".py")]
        for other in re.findall(r"from fssbench\.reports\.(\w+)", path.read_text())
        if STEPS.index(other) > STEPS.index(step)
    ]
    assert not wrong


def test_formats_know_tables_and_nothing_of_records_or_papers() -> None:
    root = Path(next(iter(fssbench.reports.__path__))) / "formats"
    imports = {name for path in root.glob("*.py") for name in re.findall(r"from fssbench\.(\S+)", path.read_text())}
    assert imports == {"reports.tables.model"}
