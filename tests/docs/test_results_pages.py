"""Pages: what cog wrote is what the code says today, and numbers in the text of results stand in a table."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from repository import ROOT

PAGES = [
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").glob("*/README.md"))
    if "[[[cog" in page.read_text(encoding="utf-8")
]
BLOCK = re.compile(r"<!-- \[\[\[cog .*?\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\] -->", re.DOTALL)


def test_what_pages_show_of_the_code_is_what_it_says_today() -> None:
    command = [sys.executable, "-m", "cogapp", "-I", "docs", "--check", *PAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"make pages would change them:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", ["results/lite/README.md"])
def test_numbers_of_the_text_stand_in_its_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = set(re.findall(r"\d+\.\d+", " ".join(BLOCK.findall(text))))
    said = re.findall(r"(?<![\w.])\d+\.\d+", BLOCK.sub("", text))
    assert said and [number for number in said if number not in shown] == []
