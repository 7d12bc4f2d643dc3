"""The leaderboard: what may share a ranking, what reaches a page unescaped (nothing), and what a build may replace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from command_line import fssbench
from repository import ROOT

from fssbench.audit.judge import audit
from fssbench.errors import UsageError
from fssbench.protocols import PFENET
from fssbench.records import find_records, read_run
from fssbench.regime import Regime
from fssbench.reports.board.axis import axis_of
from fssbench.reports.board.build import build_site
from fssbench.reports.entries.rankings import slug
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.paper import papers

Make = Callable[..., Any]
ATTACK = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its rankings, its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rankings: list[list[list[str]]] = []
        self.text = ""
        self._cell = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table" and attributes.get("class") == "ranking":
            self.rankings.append([])
        if tag == "tr" and "data-method" in attributes:
            self.rankings[-1].append([])
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("tr", "table"))
        if tag in ("td", "th") and self.rankings and self.rankings[-1]:
            self.rankings[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell and self.rankings and self.rankings[-1]:
            self.rankings[-1][-1][-1] += data.strip()

    def column(self, table: int, cell: int) -> list[str]:
        return [row[cell] for row in self.rankings[table]]


def build(results: Path, out: Path, **options: Any) -> Path:
    build_site(load_results(results), out, with_intervals=False, **options)
    return out


def digests(site: Path) -> dict[str, str]:
    files = sorted(path for path in site.rglob("*") if path.is_file())
    return {path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_results_are_ranked_by_miou_and_those_without_all_folds_have_no_rank(make_record: Make, tmp_path: Path) -> None:
    for number, (name, miou, folds) in enumerate([("weak", 0.3, 4), ("strong", 0.6, 4), ("part", 0.9, 2)]):
        make_record(tmp_path / "r" / name, method=name, miou=miou, folds=range(folds), seed=number)
    page = Page(build(tmp_path / "r", tmp_path / "site") / "index.html")
    assert [cell.removesuffix("untrained") for cell in page.column(0, 1)] == ["strong", "weak", "part"]
    assert page.column(0, 0) == ["1", "2", ""]
    assert page.column(0, 4)[2] == "–"


def test_numbers_are_those_of_the_record_and_readable_without_a_script(make_record: Make, tmp_path: Path) -> None:
    record = make_record(tmp_path / "r" / "a", title="PANet", miou=0.5)
    page = Page(build(tmp_path / "r", tmp_path / "site") / "index.html")
    assert page.column(0, 4) == [f"{100 * record.run.summary['miou']:.1f}"]
    assert page.column(0, 6) == [f"{100 * record.run.summary['fb_iou']:.1f}"]
    folds = [f"{100 * fold['miou']:.1f}" for fold in record.run.summary["folds"].values()]
    assert page.rankings[0][0][7:11] == folds


@pytest.mark.parametrize(
    "change",
    [{"bank_seed": 1}, {"protocol": PFENET}, {"way": 2}, {"shot": 5}, {"dataset": "coco20i"}, {"bank_episodes": 40}],
    ids=["episodes", "protocol", "way", "shot", "data set", "part of the bank"],
)
def test_what_cannot_be_compared_never_shares_a_ranking(make_record: Make, tmp_path: Path, change: Any) -> None:
    make_record(tmp_path / "r" / "a", method="one")
    make_record(tmp_path / "r" / "b", method="two", **change)
    page = Page(build(tmp_path / "r", tmp_path / "site") / "index.html")
    assert sorted(len(table) for table in page.rankings) == [1, 1]
    assert [page.column(0, 0), page.column(1, 0)] == [["1"], ["1"]]


def test_no_text_from_a_record_becomes_markup(make_record: Make, tmp_path: Path) -> None:
    make_record(
        tmp_path / "r" / "evil", method=ATTACK, title=ATTACK, backbone=ATTACK, supervision=ATTACK,
        note=ATTACK, complete=False,
        regime=Regime(dataset=ATTACK, image_list=ATTACK, note=ATTACK),
        id=f"../../{ATTACK}", input_size=ATTACK, created=ATTACK,
    )  # fmt: skip
    site = build(tmp_path / "r", tmp_path / "site")
    pages = [Page(path) for path in sorted(site.rglob("*.html"))]
    assert len(pages) == 3
    for page in pages:
        assert [attributes.get("src") for tag, attributes in page.tags if tag == "script"] in (
            ["site.js"], ["../site.js"], ["../../site.js"],
        )  # fmt: skip
        assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "base")]
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert ATTACK in page.text  # shown as it is
    assert any(attributes.get("data-method") == ATTACK for _, attributes in pages[1].tags)


def test_an_id_with_dots_and_slashes_stays_inside_the_site(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", id="../../../escaped")
    make_record(tmp_path / "r" / "b", id="..", seed=1, method="other")
    build(tmp_path / "r", tmp_path / "deep" / "site")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "r"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["site"]


def test_results_whose_names_differ_in_signs_only_keep_pages_of_their_own(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", id="x/y", method="one")
    make_record(tmp_path / "r" / "b", id="x y", method="two", seed=1)
    site = build(tmp_path / "r", tmp_path / "site")
    titles = {Page(path).text.split(",")[0].strip() for path in site.glob("records/*/index.html")}
    assert titles == {"one", "two"}


def test_every_link_leads_to_a_file_of_the_site_and_none_to_the_network(make_record: Make, tmp_path: Path) -> None:
    for number, shot in enumerate((1, 1, 5, 5)):
        make_record(tmp_path / "r" / f"{number}", ("panet", "hsnet")[number % 2], episodes=5, shot=shot, seed=number)
    check_links(build(tmp_path / "r", tmp_path / "site"))
    assert {"overall.html", "pair.js"} <= {path.name for path in (tmp_path / "site").iterdir()}


def test_the_site_of_this_repositorys_results_holds_every_record_and_no_dead_link(tmp_path: Path) -> None:
    results = ROOT / "results"
    site = build(results, tmp_path / "site")
    check_links(site)
    held = {json.loads(path.read_text())["id"] for path in site.rglob("record*.json")}
    assert held == {read_run(folder).id for folder in find_records(results)}
    page = Page(site / "index.html")
    for table in page.rankings:
        ranks = [int(row[0]) for row in table if row[0]]
        means = [float(row[4].split("[")[0]) for row in table if row[0]]
        assert ranks == sorted(ranks) and means == sorted(means, reverse=True)


def check_links(site: Path) -> None:
    seen = 0
    elsewhere = {address for paper in papers().values() for address in (paper.url, paper.code) if address}
    for path in site.rglob("*.html"):
        page = Page(path)
        ids = {attributes.get("id") for _, attributes in page.tags}
        for _, attributes in page.tags:
            for link in (attributes.get("href"), attributes.get("src")):
                if link is None:
                    continue
                seen += 1
                parts = urlsplit(link)
                if link in elsewhere:  # a paper or its code: followed by a reader, loaded by nothing
                    assert attributes.get("src") is None
                    continue
                assert not parts.scheme
                assert not parts.netloc
                if parts.path:
                    target = path.parent / unquote(parts.path)
                    assert target.resolve().is_file(), link
                    assert target.resolve().is_relative_to(site)
                elif parts.fragment:
                    assert parts.fragment in ids
    assert seen > 20


def test_the_same_records_give_the_same_bytes_wherever_they_lie(make_record: Make, tmp_path: Path) -> None:
    for root in ("one", "two"):
        names = ["a", "b", "c"] if root == "one" else ["c", "b", "a"]
        for name in names:
            make_record(tmp_path / root / name, method=name, seed=ord(name), episodes=5)
    first = digests(build(tmp_path / "one", tmp_path / "site1"))
    assert first == digests(build(tmp_path / "two", tmp_path / "site2"))
    assert first == digests(build(tmp_path / "one", tmp_path / "site1"))


def test_a_folder_that_is_no_site_is_left_alone_without_force(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", episodes=5)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a site that fssbench built"):
        build(tmp_path / "r", tmp_path / "site")
    assert (tmp_path / "site" / "thesis.tex").read_text() == "years of work"
    build(tmp_path / "r", tmp_path / "site", force=True)
    assert not (tmp_path / "site" / "thesis.tex").exists()


def test_a_file_added_to_a_site_is_not_lost_without_force(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", episodes=5)
    site = build(tmp_path / "r", tmp_path / "site")
    (site / "CNAME").write_text("example.org")
    with pytest.raises(UsageError, match="CNAME"):
        build(tmp_path / "r", site)
    assert (site / "CNAME").exists()


@pytest.mark.parametrize("out", [".", "r"])
def test_a_site_never_replaces_the_records_it_is_made_of(make_record: Make, tmp_path: Path, out: str) -> None:
    make_record(tmp_path / "r" / "a", episodes=5)
    with pytest.raises(UsageError, match="would be lost"):
        build(tmp_path / "r", tmp_path / out, force=True)


def test_a_build_that_fails_leaves_the_older_site_as_it_was(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", episodes=5)
    site = build(tmp_path / "r", tmp_path / "site")
    before = digests(site)

    def broken(*_: object) -> Any:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build(tmp_path / "r", site, gallery=broken)
    assert digests(site) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "site"]


def test_the_command_builds_and_says_where(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", episodes=5)
    fssbench("leaderboard", "build", tmp_path / "r", "--out", tmp_path / "site")
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_slug_holds_nothing_that_a_path_or_url_would_act_upon() -> None:
    assert slug("../..", "<b>", "PASCAL-5i", 5) == "b-pascal-5i-5"
    assert slug("/", "é") == "unnamed"


def test_an_axis_holds_all_values_between_its_ends() -> None:
    axis = axis_of([0.31, 0.58, None])
    assert axis.low <= 0.31
    assert axis.high >= 0.58
    assert [axis.x(axis.low), axis.x(axis.high)] == [6, 194]
    assert 3 <= len(axis.ticks) <= 7
    assert (axis_of([]).low, axis_of([]).high) == (0.0, 1.0)


def test_two_processes_write_the_same_site_as_one(make_record: Make, tmp_path: Path) -> None:
    for number in range(14):  # more of one board than a process measures at once, and a second board
        options = {"method": f"m{number}", "miou": 0.3 + number / 50, "shot": 1 if number < 13 else 5, "episodes": 5}
        make_record(tmp_path / "r" / f"{number:02d}", **options)
    results = load_results(tmp_path / "r")
    for workers in (1, 2):
        build_site(results, tmp_path / f"by-{workers}", workers=workers)
    assert digests(tmp_path / "by-2") == digests(tmp_path / "by-1")
    assert all(f"m{number}" in (tmp_path / "by-2" / "index.html").read_text() for number in range(14))


@pytest.mark.parametrize(
    ("asked", "methods", "ranks"),
    [
        ([], ["beta", "alpha", "gamma"], ["1", "2", "3"]),
        (["--sort", "name"], ["alpha", "beta", "gamma"], ["2", "1", "3"]),
        (["--sort", "date"], ["gamma", "alpha", "beta"], ["3", "2", "1"]),
    ],
)
def test_a_board_stands_in_the_order_asked_for_and_its_ranks_stay(
    make_record: Make, tmp_path: Path, asked: list[str], methods: list[str], ranks: list[str]
) -> None:
    for name, miou, year in (("alpha", 0.5, 2025), ("beta", 0.6, 2024), ("gamma", 0.3, 2026)):
        make_record(tmp_path / "r" / name, name, miou=miou, created=f"{year}-01-02T03:04:05Z")
    fssbench("leaderboard", "build", tmp_path / "r", "--out", tmp_path / "site", "--no-intervals", *asked)
    page = Page(tmp_path / "site" / "index.html")
    assert page.column(0, 1) == [name + "untrained" for name in methods]
    assert page.column(0, 0) == ranks
    claims = [tag for tag, attributes in page.tags if attributes.get("aria-sort") == "descending"]
    assert len(claims) == (0 if asked else 1)


def test_a_board_without_means_says_why_and_claims_no_order(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "r" / "a", folds=[0])
    page = Page(build(tmp_path / "r", tmp_path / "site") / "index.html")
    assert "a mean and a rank need every fold of the bank" in page.text
    assert not any("aria-sort" in attributes for _, attributes in page.tags)


def test_a_site_among_the_records_is_no_record(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", episodes=5)
    build_site(load_results(tmp_path), tmp_path / "site", with_intervals=False)
    assert len(load_results(tmp_path)) == 1
    assert audit(tmp_path).findings == ()
