"""Tables as one standalone HTML page: no network, no script, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fssbench.reports.tables.model import Table


def environment_of(folder: Path) -> Environment:
    """Templates that escape every text and know every name they use."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def to_html(tables: Sequence[Table]) -> str:
    """All tables on one page."""
    return environment_of(Path(__file__).parent / "templates").get_template("report.html").render(tables=tables)
