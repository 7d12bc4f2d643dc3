"""The leaderboard in a real browser, opened from disk. Needs a chromium, which nothing here installs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from synthetic_records import make_record

from fssbench.protocols import PFENET
from fssbench.regime import Regime
from fssbench.reports.board.build import build_site
from fssbench.reports.entries.results import load_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ATTACK = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six results on two boards, and one on another protocol; one of them attacks."""
    folder = tmp_path_factory.mktemp("results")
    trained = Regime(
        source="fssbench", dataset="shapes5i", fold=0, classes={c: f"class number {c}" for c in range(30, 46)}
    )
    for seed, (method, miou) in enumerate([("panet", 0.45), ("canet", 0.5), ("hsnet", 0.6)]):
        for shot in (1, 5):
            make_record(folder / f"{method}-{shot}", method, title=method.upper(), miou=miou, shot=shot, seed=seed,
                 weights="checkpoint" if method == "hsnet" else "imagenet",
                 regime=trained if method == "hsnet" else None, our_reading=method == "canet",
                 backbone="vgg16" if method == "panet" else "resnet50")  # fmt: skip
    make_record(folder / "other", "panet", title="PANET", protocol=PFENET, seed=9)
    make_record(folder / "evil", ATTACK, title=ATTACK, backbone=ATTACK, supervision=ATTACK, miou=0.2, seed=8)
    out = tmp_path_factory.mktemp("web") / "site"
    build_site(load_results(folder), out, with_intervals=False)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("FSSBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no chromium on this machine: apt-get install chromium, or name one by $FSSBENCH_CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, site: Path) -> Iterator[Page]:
    """The index page. Any script error, refused script or request to the network fails the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: None if request.url.startswith("file:") else complaints.append(request.url))
    opened.goto((site / "index.html").as_uri())
    yield opened
    assert complaints == []
    context.close()


def visible_methods(page: Page) -> list[str]:
    return [row.get_attribute("data-method") or "" for row in page.locator("tbody tr:visible[data-method]").all()]


def test_a_method_whose_name_is_a_script_is_text_and_nothing_else(page: Page, site: Path) -> None:
    assert page.title() == "Few-shot segmentation leaderboard"
    assert page.get_by_role("link", name=ATTACK).count() == 1
    for other in (site / "records" / "evil" / "index.html", *(site / "boards").glob("*.html")):
        page.goto(other.as_uri())
        assert page.title() != "owned"
        assert page.locator("img").count() == 0


def test_choosing_a_shot_leaves_its_boards_only(page: Page) -> None:
    page.get_by_label("Shot", exact=True).select_option("5")
    assert [board.get_attribute("data-shot") for board in page.locator(".board:visible").all()] == ["5"]
    assert page.locator("#count").inner_text() == "3 of 8 results"
    assert page.locator(".bank:visible").count() == 1


def test_filters_combine_and_can_be_taken_back(page: Page) -> None:
    page.get_by_label("Code", exact=True).select_option("reading")
    assert set(visible_methods(page)) == {"CANET"}
    page.get_by_label("Backbone", exact=True).select_option("vgg16")
    assert visible_methods(page) == []
    assert page.get_by_text("No result fits these filters.").is_visible()
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.getElementById('count').textContent === '8 results'")
    assert len(visible_methods(page)) == 8


def test_a_column_can_be_left_out_and_comes_back(page: Page) -> None:
    fold = page.locator(".ranking th.fold").first
    assert fold.is_visible()
    page.get_by_label("Folds").uncheck()
    assert not fold.is_visible() and page.locator(".ranking td.fold:visible").count() == 0
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("!document.body.classList.contains('no-fold')")
    assert fold.is_visible()


def test_a_part_of_a_name_finds_a_method(page: Page) -> None:
    page.get_by_label("Method", exact=True).fill("hsn")
    assert visible_methods(page) == ["HSNET", "HSNET"]


def test_a_view_is_in_the_address_and_comes_back_with_it(page: Page) -> None:
    page.get_by_label("Training", exact=True).select_option("trained")
    page.goto(page.url)
    assert set(visible_methods(page)) == {"HSNET"}
    page.goto(page.url.split("?")[0] + "?shot=77&nonsense=1")
    assert len(visible_methods(page)) == 8


def test_a_table_sorts_by_keyboard_and_says_so(page: Page) -> None:
    board = page.locator(".board").first
    header = board.locator("th", has_text="mIoU").first
    assert header.get_attribute("aria-sort") == "descending"
    numbers = [float(cell.get_attribute("data-value") or "") for cell in board.locator("tbody td:nth-child(5)").all()]
    assert numbers == sorted(numbers, reverse=True)
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    again = [float(cell.get_attribute("data-value") or "") for cell in board.locator("tbody td:nth-child(5)").all()]
    assert again == sorted(numbers)
    board.locator("th", has_text="Method").get_by_role("button").focus()
    page.keyboard.press("Space")
    names = [row.get_attribute("data-method") or "" for row in board.locator("tbody tr").all()]
    assert names == sorted(names, key=str.lower)
    assert header.get_attribute("aria-sort") == "none"


def test_everything_is_reached_by_the_tab_key(page: Page) -> None:
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"Skip to the results", "fssbench", "HSNET", "by class and year", "compare two", "Show all"} <= reached


def test_a_record_page_leads_back_and_sorts_its_classes(page: Page) -> None:
    page.get_by_role("link", name="HSNET").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("HSNET")
    assert page.locator("table.classes tbody tr").count() == 20
    page.locator("table.classes th", has_text="IoU").first.get_by_role("button").click()
    cells = page.locator("table.classes tbody td:nth-child(4)").all()
    values = [float(cell.get_attribute("data-value") or "") for cell in cells]
    assert values == sorted(values, reverse=True)
    page.get_by_role("navigation", name="Site").get_by_role("link").click()
    assert page.title() == "Few-shot segmentation leaderboard"


def wait_for_second(page: Page, name: str) -> None:
    """Until the address says so. (No load ends there, which `wait_for_url` of old releases would wait for.)"""
    for _ in range(600):
        if f"second={name}" in page.url:
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.url)


def test_two_results_are_compared_by_class_with_their_episodes(page: Page, site: Path) -> None:
    """From the page of one result; a name that is a script is text here, too."""
    page.goto((site / "records" / "panet-1" / "index.html").as_uri())
    page.get_by_role("link", name="Compare with another").click()
    assert page.get_by_label("First", exact=True).input_value() == "panet-1"
    page.get_by_label("Second", exact=True).select_option("hsnet-1")
    wait_for_second(page, "hsnet-1")
    facts = [each.text_content() or "" for each in page.locator("#pair-facts dd").all()]
    assert float(facts[0]) < float(facts[1])
    assert facts[2].startswith("−")
    rows = page.locator("#pair-classes tbody tr")
    assert rows.count() == 20
    by_hand = float(facts[0]) - float(facts[1])
    assert abs(-float(facts[2].removeprefix("−")) - by_hand) < 0.11
    name = rows.first.get_by_role("button").text_content() or ""
    rows.first.get_by_role("button").press("Enter")  # by keyboard: the episodes of this class
    assert {each.text_content() for each in page.locator("#pair-episodes tbody td:nth-child(2)").all()} == {name}
    assert "4 of 4 episodes" in (page.locator("#pair-count").text_content() or "")
    assert "first=panet-1&second=hsnet-1" in page.url
    evil = page.get_by_label("Second", exact=True).locator("option", has_text="<script>").get_attribute("value")
    page.get_by_label("Second", exact=True).select_option(evil)
    wait_for_second(page, "evil")
    assert "owned" not in page.title()


@pytest.mark.parametrize("width", [360, 800, 1200])
@pytest.mark.parametrize("name", ["index.html", "records/hsnet-1/index.html", "overall.html", "board", "pair"])
def test_a_page_fits_its_width(browser: Browser, site: Path, name: str, width: int) -> None:
    boards = sorted((site / "boards").glob("*.html"), key=lambda path: path.stem.endswith("-pair"))
    path = {"board": boards[0], "pair": boards[-1]}.get(name, site / name)
    context = browser.new_context(viewport={"width": width, "height": 740})
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    narrowest = (
        "Math.min(...[...document.querySelectorAll('.everything dd')].map(e => e.getBoundingClientRect().width))"
    )
    assert page.evaluate(narrowest) > 40  # nothing of a record stands letter below letter
    context.close()


@pytest.mark.parametrize("name", ["index.html", "overall.html"])
def test_a_telephone_shows_the_mean_beside_its_method(browser: Browser, site: Path, name: str) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 740})
    page = context.new_page()
    page.goto((site / name).as_uri())
    mean = page.locator("tbody .number").first.bounding_box()
    assert mean is not None and mean["x"] + mean["width"] <= 400
    if name == "index.html":
        page.get_by_label("Supervision", exact=True).and_(page.locator("[type=checkbox]")).check()
        assert page.locator("td.supervision").first.is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(browser: Browser, site: Path, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper > 0.5) == (scheme == "light")
    for selector in ("body", ".lead", ".meta", "tbody th a", ".badge.reading", "td.fold", "thead th", "footer p"):
        text = luminance(page.evaluate("s => getComputedStyle(document.querySelector(s)).color", selector))
        high, low = max(text, paper), min(text, paper)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
    context.close()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, WCAG 2.2."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_scripts_everything_is_there_and_no_dead_control_is(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("tbody tr[data-method]").count() == 8
    assert page.locator("tbody tr[data-method]").first.is_visible()
    assert page.locator("button:visible, input:visible, select:visible").count() == 0
    context.close()


def test_print_leaves_out_controls_and_keeps_every_row(page: Page) -> None:
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert len(visible_methods(page)) == 8
    assert len(page.pdf(prefer_css_page_size=True)) > 10_000


def test_a_result_costs_few_nodes_and_a_board_out_of_sight_no_layout(page: Page) -> None:
    """A thousand results open at once only while each is small, and while nothing below the window is laid out."""
    each = "[...document.querySelectorAll('{}')].map(e => {})"
    sizes = page.evaluate(each.format(".ranking tbody tr", "e.querySelectorAll('*').length"))
    assert len(sizes) == 8 and max(sizes) <= 28
    assert set(page.evaluate(each.format(".board", "getComputedStyle(e).contentVisibility"))) == {"auto"}
