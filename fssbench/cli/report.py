"""`fssbench report`, `compare` and `agreement`: tables from records, what is real of them, and what papers say."""

from __future__ import annotations

from pathlib import Path

import typer

from fssbench.cli.app import app, messages, track
from fssbench.cli.results import Chosen, Ordered, Printing, where_possible


@app.command("report")
def report(
    chosen: Ordered,
    paper: str | None = typer.Option(
        None, "--paper", metavar="NAME", help="The comparison tables of a paper, as in `canet`, with what was measured."
    ),
    per_class: bool = typer.Option(False, "--per-class", help="IoU of every class instead of every fold."),
    with_published: bool = typer.Option(False, "--with-published", help="The papers' rows under ours."),
    intervals: bool = typer.Option(False, "--intervals/--no-intervals", help="95 % intervals over images."),
    protocol: str | None = typer.Option(
        None, "--protocol", help="Accumulate as another codebase does, as in `pfenet`."
    ),
    *,
    printing: Printing,
) -> None:
    """Tables of results: method x backbone x weights, folds, mean and FB-IoU for each shot."""
    from fssbench.protocols import find_protocol
    from fssbench.reports.entries.lens import through
    from fssbench.reports.papers.paper import find_paper
    from fssbench.reports.render import render, render_paper
    from fssbench.reports.tables.layouts import View, class_tables, fold_tables
    from fssbench.reports.tables.paper import paper_tables

    digits, name = printing.digits, printing.format or "markdown"
    if paper is not None:
        wanted, nothing = find_paper(paper), chosen.results is None and not Path("results").is_dir()
        found = [] if nothing else chosen.read()  # without records, unless they were asked for, what is published
        if printing.on_screen:
            printing.show(paper_tables(wanted, found, digits))
        else:
            printing.write(render_paper(name, wanted, found, digits))
        return
    lens = None if protocol is None else find_protocol(protocol)
    found = chosen.read()
    if lens is not None:
        found = [through(result, lens) for result in track(found, "scoring again")]
    view = View(digits=digits, published=with_published, intervals=intervals, lens=lens, track=track)
    if printing.on_screen and not (per_class and with_published):
        printing.show(class_tables(found, view) if per_class else fold_tables(found, view))
    else:
        printing.write(render(name, found, view, per_class=per_class))


@app.command("compare")
def compare(
    chosen: Ordered,
    against: str | None = typer.Option(
        None, "--against", metavar="BASELINE", help="Only with this one: a method, or a record. [every pair]"
    ),
    ranks: bool = typer.Option(False, "--ranks", help="Only the table of ranks, not the pairs."),
    across_shots: bool = typer.Option(
        False, "--across-shots", help="Compare also results of different shots. [only those of the same]"
    ),
    episodes: int = typer.Option(5, "--episodes", min=0, help="How many of the most different episodes to list."),
    *,
    printing: Printing,
) -> None:
    """Paired tests on shared episodes: which differences are real, by class, and where they are largest."""
    from fssbench.reports.studies.comparison import compare as compare_results
    from fssbench.reports.studies.comparison import comparison_data, sets_to_compare
    from fssbench.reports.tables.comparison import comparison_tables

    found = chosen.read()
    if chosen.sort == "name":  # as named on the command line
        order = [*enumerate(chosen.results or ())]
        found.sort(key=lambda r: next((i for i, f in order if r.sources[0].path.is_relative_to(f)), 0))
    sets = sets_to_compare(found, across_shots=across_shots)
    if alone := len(found) - sum(map(len, sets)):
        messages.print(f"left out: {alone} of {len(found)} results, with no other on their episodes")
    comparisons = where_possible(
        sets, lambda each: compare_results(each, extremes=episodes, against=against, track=track)
    )
    data = [comparison_data(each) for each in comparisons]
    tables = [table for each in comparisons for table in comparison_tables(each, printing.digits, ranks=ranks)]
    printing.show(tables, data[0] if len(data) == 1 else data)


@app.command("agreement")
def agreement(
    chosen: Chosen,
    papers: str = typer.Option("pascal5i", "--papers", metavar="DATASET", help="Whose published numbers to stand by."),
    *,
    printing: Printing,
) -> None:
    """Whether methods stand in the papers' order on our episodes: Spearman's rank correlation, by number of shots."""
    from dataclasses import asdict

    from fssbench.reports.studies.agreement import agreement as agreement_of
    from fssbench.reports.studies.comparison import sets_to_compare
    from fssbench.reports.tables.agreement import agreement_table

    found = where_possible(sets_to_compare(chosen.read()), lambda each: agreement_of(each, papers, track))
    data = [
        {"dataset": each.results[0].place.dataset, "shot": each.results[0].shot, "papers": each.papers_dataset,
         "spearman": each.spearman, "low": each.low, "high": each.high,
         "methods": [asdict(standing) for standing in each.standings]}
        for each in found
    ]  # fmt: skip
    tables = [agreement_table(each, printing.digits) for each in found]
    printing.show(tables, {"schema": 1, "agreement": data})
