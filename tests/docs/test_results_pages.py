"""Pages: what cog wrote is what the code says today, and numbers in the text of results stand in a table."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest
from cogapp import Cog
from repository import ROOT

PAGES = [
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").glob("*/README.md"))
    if "[[[cog" in page.read_text(encoding="utf-8")
]
LONG = "results/lite/README.md"  # sixteen tables with intervals: half a minute
BLOCK = re.compile(r"<!-- \[\[\[cog (.*?)\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\] -->", re.DOTALL)


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] * (p == LONG)) for p in PAGES])
def test_what_pages_show_of_the_code_is_what_it_says_today(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_up_to_date(page, monkeypatch)


def test_one_table_of_each_kind_of_a_long_page_is_what_the_code_says_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {
        re.sub(r"\d+|shapes|pascal", "", found[1]): found[0] for found in BLOCK.finditer((ROOT / LONG).read_text())
    }
    assert 5 < len(kinds) < 10
    (tmp_path / "page.md").write_text("\n".join(kinds.values()), encoding="utf-8")
    is_up_to_date(str(tmp_path / "page.md"), monkeypatch)


def is_up_to_date(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delitem(sys.modules, "shown", raising=False)  # which writes to the `cog` it was imported with
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = Cog().main(["cog", "-I", "docs", "--check", page])
    assert status == 0, f"make pages would change it:\n{out.getvalue()}{err.getvalue()}"


@pytest.mark.parametrize("page", ["results/lite/README.md"])
def test_numbers_of_the_text_stand_in_its_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tables = set(re.findall(r"\d+\.\d+", " ".join(shown for _, shown in BLOCK.findall(text))))
    said = re.findall(r"(?<![\w.])\d+\.\d+", BLOCK.sub("", text))
    assert said and [number for number in said if number not in tables] == []
