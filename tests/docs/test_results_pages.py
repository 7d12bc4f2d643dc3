"""Pages of results: tables are what their commands print today, and numbers in the text stand in a table."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from repository import ROOT

PAGES = ("README.md", "results/lite/README.md")
BLOCK = re.compile(r"<!-- \[\[\[cog .*?\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\] -->", re.DOTALL)


def test_tables_are_what_their_commands_print() -> None:
    command = [sys.executable, "-m", "cogapp", "-I", "docs", "--check", *PAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"make pages would change them:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES[1:])
def test_numbers_of_the_text_stand_in_its_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = set(re.findall(r"\d+\.\d+", " ".join(BLOCK.findall(text))))
    said = re.findall(r"(?<![\w.])\d+\.\d+", BLOCK.sub("", text))
    assert said and [number for number in said if number not in shown] == []
