"""What a page of the site offers besides its ranking: downloads, published rows, links and citations."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fssbench.records import Record, WeightsEntry
from fssbench.reports.board.build import build_site
from fssbench.reports.entries.results import load_results

Make = Callable[..., Record]


@pytest.fixture
def site(make_record: Make, tmp_path: Path) -> Path:
    """Two methods on PASCAL-5i; one is trained, with weights from the web and an address that must be no link."""
    results = tmp_path / "results"
    make_record(results / "a", "panet", title="PANet", dataset="pascal5i", miou=0.4, seed=1)
    sources = ["https://example.org/w.pth", "javascript:alert(1)", "", ""]
    weights = {
        fold: WeightsEntry(kind="checkpoint", sha256=f"{fold:064d}", source=source)
        for fold, source in enumerate(sources)
    }
    make_record(results / "b", "=HSNet", title="=HSNet", dataset="pascal5i", miou=0.6, seed=2)
    make_record(results / "c", "canet", title="CANet", dataset="pascal5i", miou=0.5, seed=3)
    path = results / "c" / "run.json"
    run = json.loads(path.read_text())
    run["weights"] = {fold: json.loads(entry.model_dump_json()) for fold, entry in weights.items()}
    path.write_text(json.dumps(run))
    build_site(load_results(results), tmp_path / "site", with_intervals=False)
    return tmp_path / "site"


def test_a_board_can_be_had_as_csv_best_first_and_a_name_is_no_formula(site: Path) -> None:
    (path,) = [p for p in (site / "boards").glob("*.csv") if not p.name.endswith("-classes.csv")]
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["method"] for row in rows] == ["'=HSNet", "CANet", "PANet"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    folds = [float(rows[1][f"fold{fold}"]) for fold in range(4)]
    assert float(rows[1]["miou"]) == pytest.approx(sum(folds) / 4)
    assert path.name in (site / "index.html").read_text()


def test_every_class_of_every_result_is_in_the_csv_of_classes(site: Path) -> None:
    (path,) = (site / "boards").glob("*-classes.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 3 * 20
    assert all(0 < float(row["iou"]) < 1 for row in rows)


def test_published_rows_stand_apart_from_the_ranking(site: Path) -> None:
    page = (site / "index.html").read_text()
    ranking, published = page.split('<details class="published">')
    assert "PGNet" not in ranking and "PGNet" in published  # nobody measured it
    assert 'class="rank"' not in published.split("</details>")[0]


def test_a_page_links_paper_code_and_weights_but_no_script(site: Path) -> None:
    page = (site / "records" / "c" / "index.html").read_text()
    for address in ("https://arxiv.org/abs/1903.02351", "https://github.com/icoz69/CaNet", "https://example.org/w.pth"):
        assert f'href="{address}"' in page
    assert 'href="javascript' not in page
    assert "@inproceedings{zhang2019canet" in page
    assert "BibTeX" not in (site / "records" / "b" / "index.html").read_text()  # a method that fssbench does not know


def test_a_page_says_parameters_and_what_an_episode_took_and_a_dash_for_older_records(
    make_record: Make, tmp_path: Path
) -> None:
    """8 s over 4 folds of 20 episodes are 100 ms each; seconds of a record without parameters were of a whole run."""
    told = {"total": 1_500_000, "trained": 250_000}
    new = make_record(
        tmp_path / "r" / "new", "panet", episodes=20, seconds={"encode": 6.0, "head": 2.0}, parameters=told
    )
    make_record(tmp_path / "r" / "old", "canet", episodes=20, seconds={"encode": 6.0, "head": 2.0}, seed=2)
    assert new.run.summary["episodes"] == 80
    build_site(load_results(tmp_path / "r"), tmp_path / "site", with_intervals=False)
    page = (tmp_path / "site" / "records" / "new" / "index.html").read_text()
    assert "1.50 M" in page and "0.25 M trained" in page and "100.0 ms" in page
    assert "time not known" in (tmp_path / "site" / "records" / "old" / "index.html").read_text()
    (path,) = [p for p in (tmp_path / "site" / "boards").glob("*.csv") if not p.name.endswith("-classes.csv")]
    rows = {row["record"]: row for row in csv.DictReader(path.read_text().splitlines())}
    assert rows["new"]["milliseconds_an_episode"] == "100.0" and rows["old"]["milliseconds_an_episode"] == ""
