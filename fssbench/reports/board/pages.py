"""The leaderboard's pages, rendered into a folder. Text from records reaches HTML through autoescaping only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup, escape

from fssbench import __version__
from fssbench.reports.board.axis import Axis, axis_of
from fssbench.reports.board.downloads import classes_csv, ranking_csv
from fssbench.reports.board.pairs import episodes_of, episodes_script, ious_script
from fssbench.reports.board.paper import Paper, paper_of, published_on
from fssbench.reports.board.years import years_of
from fssbench.reports.entries.rankings import Bank, Board, Ranked
from fssbench.reports.formats.html import environment_of
from fssbench.reports.papers.paper import papers
from fssbench.reports.studies.comparison import labels
from fssbench.reports.studies.overall import overall

if TYPE_CHECKING:
    from fssbench.reports.pictures.gallery import DrawGallery

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = ("style.css", "site.js", "pair.js", "icon.svg")


@dataclass(frozen=True)
class MatrixRow:
    """IoU of one class by every entry of a board; None where an entry lacks the class."""

    name: str
    episodes: int
    ious: tuple[float | None, ...]

    @property
    def best(self) -> float | None:
        return max((value for value in self.ious if value is not None), default=None)


def write_pages(folder: Path, banks: Sequence[Bank], gallery: DrawGallery | None = None) -> None:
    """Write the whole site into `folder`. `gallery` draws a result's pictures into a folder that it is given."""
    entries = [entry for bank in banks for board in bank.boards for entry in board.entries]
    found = {entry.slug: paper_of(entry) for entry in entries}
    environment = environment_of(TEMPLATES)
    environment.filters.update(_FILTERS)
    environment.globals |= {
        "total": len(entries), "version": __version__, "paper_of": found, "published_on": published_on,
        "references": papers(), "years_of": years_of, "axis_of_board": lambda board: _axis(board, found),
    }  # fmt: skip
    for name in ASSETS:
        shutil.copyfile(TEMPLATES / name, folder / name)
    found_overall = overall(banks)
    index = environment.get_template("index.html").render(
        root="",
        with_overall=bool(found_overall),
        banks=banks,
        methods=len({entry.run.method.name for entry in entries}),
        episodes=sum(entry.scores.episodes for entry in entries),
        filters=filter_options(banks),
    )
    _write(folder / "index.html", index)
    if found_overall:
        _write(folder / "overall.html", environment.get_template("overall.html").render(root="", tables=found_overall))
    for bank in banks:
        for board in bank.boards:
            _write_board(folder, environment, bank, board, found)
            episodes = episodes_of(board)
            _write(folder / "boards" / f"{board.slug}-episodes.js", episodes_script(board, episodes.rows))
            for entry in board.entries:
                _write_record(folder, environment, bank, board, entry, gallery)
                _write(folder / "records" / entry.slug / "ious.js", ious_script(entry, episodes))


def filter_options(banks: Sequence[Bank]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The select boxes: name, title, and (value, text) of each option."""
    boards = [(bank, board) for bank in banks for board in bank.boards]
    entries = [entry for _, board in boards for entry in board.entries]

    def plain(values: set[str]) -> list[tuple[str, str]]:
        return [(value, value) for value in sorted(values)]

    def counted(values: set[int]) -> list[tuple[str, str]]:
        return [(str(value), str(value)) for value in sorted(values)]

    words = {
        "trained": "trained here", "authors": "authors' checkpoint", "untrained": "untrained",
        "reproduced": "reproduced", "reading": "our reading", "external": "predictions from elsewhere",
    }  # fmt: skip

    def worded(values: set[str]) -> list[tuple[str, str]]:
        return [(value, words[value]) for value in sorted(values, reverse=True)]

    return [
        ("dataset", "Data set", sorted({(bank.dataset, bank.title) for bank in banks})),
        ("protocol", "Protocol", plain({bank.protocol for bank in banks})),
        ("way", "Way", counted({board.way for _, board in boards})),
        ("shot", "Shot", counted({board.shot for _, board in boards})),
        ("backbone", "Backbone", plain({entry.run.backbone for entry in entries})),
        ("supervision", "Supervision", plain({entry.supervision for entry in entries})),
        ("trained", "Training", worded({entry.trained for entry in entries})),
        ("origin", "Code", worded({entry.origin for entry in entries})),
    ]


def class_matrix(board: Board) -> list[tuple[int, list[MatrixRow]]]:
    """The rows of every fold, in the order of class ids."""
    classes: dict[tuple[int, int], tuple[str, int]] = {}
    for entry in board.entries:
        for one in entry.scores.classes:
            classes.setdefault((one.fold, one.class_id), (one.name, one.episodes))
    held = [{one.class_id: one.score.value for one in entry.scores.classes} for entry in board.entries]
    folds: dict[int, list[MatrixRow]] = {}
    for (fold, class_id), (name, episodes) in sorted(classes.items()):
        ious = tuple(mine.get(class_id) for mine in held)
        folds.setdefault(fold, []).append(MatrixRow(name, episodes, ious))
    return list(folds.items())


def _axis(board: Board, papers: Mapping[str, Paper | None]) -> Axis:
    """The scale of a board's figures: it holds every mean with its interval, and the papers' numbers."""
    scores = [entry.scores.miou for entry in board.entries]
    published = [paper.value for entry in board.entries if (paper := papers[entry.slug])]
    return axis_of([*(bound for s in scores for bound in (s.value, s.low, s.high)), *published])


def _write_board(
    folder: Path, environment: Environment, bank: Bank, board: Board, papers: Mapping[str, Paper | None]
) -> None:
    template = environment.get_template("board.html")
    page = template.render(root="../", bank=bank, board=board, matrix=class_matrix(board))
    _write(folder / "boards" / f"{board.slug}.html", page)
    if len(board.entries) > 1:
        names = labels([entry.first for entry in board.entries])
        pair = environment.get_template("pair.html")
        choices = [
            (name.replace(f", {board.shot}-shot", ""), entry.slug)
            for name, entry in zip(names, board.entries, strict=True)
        ]
        page = pair.render(root="../", bank=bank, board=board, choices=choices)
        _write(folder / "boards" / f"{board.slug}-pair.html", page)
    _write(folder / "boards" / f"{board.slug}.csv", ranking_csv(bank, board, papers))
    _write(folder / "boards" / f"{board.slug}-classes.csv", classes_csv(board))


def _write_record(
    folder: Path, environment: Environment, bank: Bank, board: Board, entry: Ranked, gallery: DrawGallery | None
) -> None:
    home = folder / "records" / entry.slug
    home.mkdir(parents=True)
    sources = [source for result in entry.results for source in result.sources]
    # Not "run.json": a site inside a folder of records is no record.
    files = {"record.json" if len(sources) == 1 else f"record-{i}.json": source for i, source in enumerate(sources, 1)}
    bounds = [b for c in entry.scores.classes for b in (c.score.value, c.score.low, c.score.high)]
    page = environment.get_template("record.html").render(
        root="../../",
        bank=bank,
        board=board,
        entry=entry,
        axis=axis_of(bounds),
        missing=[fold for fold in bank.fold_numbers if fold not in entry.scores.folds],
        weights=_addresses(entry),
        pictures=gallery(entry, home) if gallery else [],
        everything=[(name, source.run.model_dump(mode="json")) for name, source in files.items()],
    )
    _write(home / "index.html", page)
    for name, source in files.items():
        shutil.copyfile(source.path / "run.json", home / name)


def _addresses(entry: Ranked) -> list[str]:
    """Web addresses of the weights, as the checkpoints' cards give them; no other kind of address becomes a link."""
    known = [one.source for result in entry.results for s in result.sources for one in s.run.weights.values()]
    return sorted({source for source in known if re.fullmatch(r"https?://[^\s\"'<>]+", source)})


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def _bars(counts: Sequence[int]) -> str:
    """A histogram as one path, in a box of 100 x 20."""
    top, width = max([*counts, 1]), 100 / len(counts)
    bars = [(i * width + 0.4, round(20 * count / top, 2)) for i, count in enumerate(counts) if count]
    return "".join(f"M{x:g} 20v-{height:g}h{width - 0.8:g}v{height:g}z" for x, height in bars)


def tree(value: Any) -> Markup:
    """Nested values of `run.json` as nested definition lists; long ones in columns."""
    if isinstance(value, Mapping) and value:
        many = len(value) > 7 and not any(isinstance(inner, Mapping) for inner in value.values())
        items = "".join(f"<div><dt>{escape(key)}</dt><dd>{tree(inner)}</dd></div>" for key, inner in value.items())
        return Markup(('<dl class="many">' if many else "<dl>") + f"{items}</dl>")
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], Mapping):
            return Markup(f"<ol>{''.join(f'<li>{tree(inner)}</li>' for inner in value)}</ol>")
        return escape(", ".join(map(str, value)) or "none")
    if value is None or isinstance(value, Mapping):
        return Markup('<span class="none">none</span>' if value is None else '<span class="none">empty</span>')
    return escape("yes" if value is True else "no" if value is False else value)


_FILTERS: Mapping[str, Callable[..., str]] = {
    "bars": _bars,
    "tree": tree,
    "percent": _percent,
    "plain": _plain,
    "signed": _signed,
    "millions": lambda value: f"{value / 1e6:.2f} M",
    "thousands": lambda value: f"{value:,}".replace(",", " "),
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
