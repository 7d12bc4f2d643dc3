"""Which of a paper's numbers stand beside ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fssbench.records import Record
from fssbench.reports.board.paper import paper_of
from fssbench.reports.entries.lines import lines_of
from fssbench.reports.entries.rankings import collect
from fssbench.reports.entries.results import load_results
from fssbench.reports.papers.beside import beside

Make = Callable[..., Record]


def test_a_relation_network_is_found_among_published_numbers(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "fss1000", title="Relation network", dataset="fss1000", folds=[0], bank_folds=[0])
    (line,) = lines_of(load_results(tmp_path))
    assert beside(line) is not None


def test_batch_normalisation_in_a_backbones_name_hides_no_paper_on_the_site(make_record: Make, tmp_path: Path) -> None:
    make_record(tmp_path / "a", "pfenet", title="PFENet", dataset="pascal5i", backbone="vgg16_bn")
    (bank,) = collect(load_results(tmp_path), with_intervals=False)
    assert paper_of(bank.boards[0].entries[0]) is not None
