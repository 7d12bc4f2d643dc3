"""The five formats: against golden files, and against what a reader relies on.

The golden files are read by people before they are committed; `pytest --update-golden` rewrites them, and fails.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from fssbench.protocols import find_protocol
from fssbench.records import Record
from fssbench.reports.entries.lens import through
from fssbench.reports.entries.results import Result, load_results
from fssbench.reports.formats.latex import to_latex
from fssbench.reports.formats.markdown import to_markdown
from fssbench.reports.formats.terminal import to_terminal
from fssbench.reports.render import render
from fssbench.reports.tables.layouts import View, class_tables, fold_tables
from fssbench.reports.tables.model import Cell, Column, Row, Table, number, ranked

Make = Callable[..., Record]
Golden = Callable[[Path, str], None]
GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {"markdown": "md", "latex": "tex", "html": "html", "csv": "csv", "json": "json"}
SCRIPT = "<script>alert('x')</script> & 100% {_^~#$\\ | \"q\""


@pytest.fixture
def results(make_record: Make, tmp_path: Path) -> list[Result]:
    """Two trained and untrained methods, a hostile name, missing folds, seeds, 2-way, and an incomplete bank."""
    first = {0: 0.30, 1: 0.40, 2: 0.50, 3: 0.60}
    common = {"dataset": "pascal5i", "backbone": "resnet50"}
    for shot in (1, 5):
        better = {fold: iou + 0.01 * shot for fold, iou in first.items()}
        make_record(tmp_path / f"panet{shot}", title="PANet", shot=shot, fold_iou=better, **common)
    make_record(tmp_path / "hsnet", "hsnet", title="HSNet", weights="checkpoint", fold_iou={**first, 0: 0.7}, **common)
    make_record(tmp_path / "x", "x", title=SCRIPT, folds=[0, 2], our_reading=True, fold_iou=first, **common)
    for seed in (0, 1):
        iou = {fold: value + 0.02 * seed for fold, value in first.items()}
        make_record(tmp_path / f"canet{seed}", "canet", title="CANet", weights="checkpoint", seed=seed, fold_iou=iou,
                    **common)  # fmt: skip
    make_record(tmp_path / "two", title="PANet", way=2, fold_iou=first, **common)
    make_record(tmp_path / "part", title="PANet", complete=False, note="class bus was left out", bank_seed=1,
                fold_iou=first, **common)  # fmt: skip
    return load_results(tmp_path)


@pytest.mark.parametrize("name", SUFFIX)
def test_the_report_is_the_golden_file(name: str, results: list[Result], golden: Golden) -> None:
    text = render(name, results, View(published=True))
    golden(GOLDEN / f"report.{SUFFIX[name]}", text)


@pytest.mark.parametrize("name", SUFFIX)
def test_the_table_by_class_is_the_golden_file(name: str, results: list[Result], golden: Golden) -> None:
    text = render(name, [r for r in results if r.place.way == 1][:3], View(), per_class=True)
    golden(GOLDEN / f"classes.{SUFFIX[name]}", text)


@pytest.mark.parametrize("name", ["markdown", "csv", "json"])
def test_the_report_with_intervals_is_the_golden_file(
    name: str, make_record: Make, tmp_path: Path, golden: Golden
) -> None:
    for shot in (1, 5):
        make_record(tmp_path / f"p{shot}", title="PANet", shot=shot, miou=0.3, episodes=60)
    make_record(tmp_path / "h", "hsnet", title="HSNet", weights="checkpoint", miou=0.5, seed=1, episodes=60)
    text = render(name, load_results(tmp_path), View(intervals=True))
    # SciPy's releases differ in the tenth digit.
    golden(GOLDEN / f"intervals.{SUFFIX[name]}", re.sub(r"0\.\d{9,}", lambda found: f"{float(found[0]):.8f}", text))


def test_the_order_of_folders_does_not_matter(make_record: Make, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        names = ["a", "b", "c"] if folder == "one" else ["z", "y", "x"]
        for seed, name in enumerate(names):
            make_record(tmp_path / folder / name, f"m{seed}", seed=seed)
    one, two = (render("markdown", load_results(tmp_path / f), View(intervals=True)) for f in ("one", "two"))
    assert one == two


def test_numbers_in_the_table_are_those_that_went_in(results: list[Result]) -> None:
    table = fold_tables(results)[0]
    panet = next(row for row in table.rows if row.cells[0].text == "PANet")
    shown = [cell.text for cell in panet.cells]
    assert shown[3:8] == ["31.0", "41.0", "51.0", "61.0", "46.0"]  # 1 shot
    assert shown[9:14] == ["35.0", "45.0", "55.0", "65.0", "50.0"]  # 5 shots
    # FB-IoU by hand: 500 px of each 10000 are ignored, the union is 1000, nothing is missed.
    background = [8500 / (8500 + 1000 * (1 - iou)) for iou in (0.31, 0.41, 0.51, 0.61)]
    expected = (sum(background) / 4 + 0.46) / 2
    assert shown[8] == f"{100 * expected:.1f}"


def test_missing_folds_print_a_dash_and_no_mean(results: list[Result]) -> None:
    table = fold_tables(results)[0]
    row = next(row for row in table.rows if "our reading" in row.cells[0].text)
    assert [cell.text for cell in row.cells][3:8] == ["30.0", "-", "50.0", "-", "-"]


def test_other_episodes_have_tables_of_their_own_with_the_reason(results: list[Result]) -> None:
    tables = fold_tables(results)
    assert len(tables) == 3
    assert all("others differ in number of ways and episodes" in " ".join(table.lead) for table in tables)
    part = next(table for table in tables if "class bus was left out" in " ".join(table.lead))
    assert len(part.rows) == 1


def test_one_fold_has_one_column(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", dataset="fss1000", folds=[0], bank_folds=[0], fold_iou={0: 0.8})
    (table,) = fold_tables(load_results(tmp_path))
    assert table.title.startswith("FSS-1000")
    assert [column.title for column in table.columns] == ["Method", "Backbone", "Weights", "mIoU", "FB-IoU"]
    assert table.rows[0].cells[3].text == "80.0"


def test_coco_has_its_twenty_classes_a_fold(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", dataset="coco20i", classes_per_fold=20, fold_iou=dict.fromkeys(range(4), 0.25))
    (table,) = class_tables(load_results(tmp_path))
    assert table.title.startswith("COCO-20i") and len(table.rows) == 81
    assert {row.cells[2].text for row in table.rows} == {"25.0"}


def test_rows_that_would_look_the_same_say_what_differs(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", input_size="417x417 squash")
    make_record(tmp_path / "b", input_size="321x321 squash")
    (table,) = fold_tables(load_results(tmp_path))
    assert {row.cells[3].text for row in table.rows} == {"input 417x417 squash", "input 321x321 squash"}


def test_ties_as_printed_share_their_rank() -> None:
    rows = [Row((Cell(name), number(value))) for name, value in [("a", 0.5001), ("b", 0.4999), ("c", 0.3), ("d", 0.1)]]
    found = ranked(rows, [Column("m", numeric=False), Column("n")])
    assert [row.cells[1].rank for row in found] == [1, 1, 2, 0]


def test_published_rows_are_never_ranked() -> None:
    rows = [Row((number(0.1),)), Row((number(0.9),), "published"), Row((number(0.2),))]
    assert [row.cells[0].rank for row in ranked(rows, [Column("n")])] == [2, 0, 1]


def test_markdown_rows_have_as_many_cells_as_the_heading(results: list[Result]) -> None:
    for block in render("markdown", results, View(published=True)).split("\n\n"):
        if block.startswith("| "):
            cells = [re.sub(r"\\.", "", line).count("|") for line in block.splitlines()]
            assert len(set(cells)) == 1
    assert "<script" not in render("markdown", results, View())


class _Tags(HTMLParser):
    """Which elements are open, and whether they close in order."""

    VOID = ("meta", "br", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_escapes_text_of_records(results: list[Result]) -> None:
    text = render("html", results, View(published=True))
    tags = _Tags()
    tags.feed(text)
    assert tags.open == [] and "table" in tags.seen
    assert "script" not in tags.seen and "&lt;script&gt;" in text
    assert "http" not in re.sub(r"<(p|li)[ >].*?</(p|li)>", "", text)  # nothing to load; links may stand in sentences


def test_latex_braces_and_columns_match(results: list[Result]) -> None:
    text = render("latex", results, View(published=True))
    plain = re.sub(r"\\[{}\\&%#_$]", "", text)
    assert plain.count("{") == plain.count("}")
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in tabular[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {re.sub(r"\\&", "", row).count("&") + 1 for row in rows} == {len(tabular[0])}
    assert {r"\toprule", r"\midrule", r"\bottomrule"} <= set(text.split())
    assert r"\textbf{" in text and r"\underline{" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(results: list[Result], tmp_path: Path) -> None:
    tables = [*fold_tables(results, View(published=True, intervals=True)), *class_tables(results)]
    (tmp_path / "report.tex").write_text(to_latex(tables, whole=True), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_json_is_strict_and_not_rounded_to_what_tables_show(results: list[Result]) -> None:
    found = json.loads(render("json", results, View(published=True, intervals=True)), parse_constant=pytest.fail)
    rows = {(row["method"], row["shot"]): row for row in found["tables"][0]["rows"]}
    assert rows["panet", 5]["mean"] == pytest.approx(0.5, abs=1e-12)
    assert rows["hsnet", 1]["published"]["mean"] == [0.64, 0.64]  # as the VAT paper quotes HSNet
    assert rows["hsnet", 1]["published"]["difference"] == pytest.approx((0.7 + 0.4 + 0.5 + 0.6) / 4 - 0.64)
    assert rows["x", 1]["mean"] is None
    assert rows["hsnet", 1]["intervals"]["mean"]["low"] <= 0.55 <= rows["hsnet", 1]["intervals"]["mean"]["high"]


def test_csv_cells_are_never_formulas(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", title="=HYPERLINK(1)", fold_iou=dict.fromkeys(range(4), 0.5))
    (row,) = csv.DictReader(io.StringIO(render("csv", load_results(tmp_path), View())))
    assert row["label"] == "'=HYPERLINK(1)"
    assert float(row["mean"]) == 0.5


def test_a_lens_has_its_name_in_the_title(results: list[Result]) -> None:
    lens = find_protocol("pfenet")
    text = to_markdown(fold_tables([through(result, lens) for result in results], View(lens=lens)))
    assert "protocol fssbench, scored as pfenet" in text
    assert "Not possible: other episodes" in text


def test_a_table_may_have_no_groups() -> None:
    table = Table("t", (Column("a"),), (Row((Cell("1"),)),))
    assert "cmidrule" not in to_latex([table], whole=True)
    assert "| 1" in to_markdown([table]).replace("|   1", "| 1")


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_of_any_width_shows_every_name_and_number(results: list[Result], width: int) -> None:
    printed = io.StringIO()
    to_terminal(fold_tables(results), Console(file=printed, width=width))
    text = printed.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    table = fold_tables(results)[0]
    words = {word for row in table.rows for cell, column in zip(row.cells, table.columns, strict=True)
             if column.numeric for word in cell.text.split()}  # fmt: skip
    assert words and words <= set(text.split())
    assert text.count("FB-IoU") >= 3  # of both shots, and of the second table
    for word in ("PANet", "HSNet", "CANet", "resnet50", "31.0", "65.0", "61.0"):
        assert word in text


@pytest.mark.parametrize("width", [30, 60])
def test_a_table_without_groups_goes_on_below_where_the_terminal_ends(width: int) -> None:
    heads = [f"column{i:02}" for i in range(12)]
    columns = (Column("name", numeric=False), *map(Column, heads), Column("last", numeric=False))
    cells = tuple(Cell(word) for word in ["somebody", *(f"{i}.125" for i in range(12)), "won"])
    printed = io.StringIO()
    to_terminal([Table("t", columns, (Row(cells),))], Console(file=printed, width=width))
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines if "somebody" in line]
    assert len(rows) > 1 and [word for row in rows for word in row if word != "somebody"] == [c.text for c in cells[1:]]
    assert [word for line in lines if "name" in line for word in line.split() if word != "name"] == [*heads, "last"]


def test_on_a_terminal_a_group_is_named_once_above_its_first_column() -> None:
    groups = {"name": "", "x": "one", "y": "one", "z": "two"}
    columns = tuple(Column(title, group=group, numeric=False) for title, group in groups.items())
    printed = io.StringIO()
    to_terminal([Table("t", columns, (Row(tuple(map(Cell, "abcd"))),))], Console(file=printed, width=80))
    lines = printed.getvalue().splitlines()
    titles = next(i for i, line in enumerate(lines) if "name" in line)
    assert lines[titles - 1].split() == ["one", "two"] and lines[titles].split() == list(groups)
    assert [lines[titles - 1].index(word) for word in ("one", "two")] == [lines[titles].index(word) for word in "xz"]


def test_links_images_and_stars_of_a_record_stay_text() -> None:
    def table(word: str) -> Table:
        return Table(word, (Column("a", numeric=False),), (Row((Cell(word),)), Row((Cell(word),))))

    told = to_markdown([table("![x](http://evil) [y](http://evil) < 0.001 `z`")])
    assert r"!\[x\](http" in told and r"\[y\](http" in told and r"\`z\`" in told and "< 0.001" in told
    assert r"\\" + "\n*" not in to_latex([table("*starred")])
    assert "{*}starred" in to_latex([table("*starred")])


def test_a_terminal_shows_text_as_it_is_and_acts_on_none_of_it() -> None:
    printed = io.StringIO()
    words = "< 0.001 & [red]x[/red] *y* \x1b[31mz"
    table = Table(words, (Column("a", numeric=False),), (Row((Cell(words),)),), lead=(words,), notes=(words,))
    to_terminal([table], Console(file=printed, width=80))
    assert printed.getvalue().count("< 0.001 & [red]x[/red] *y*  [31mz") == 4
    assert "\x1b" not in printed.getvalue()
