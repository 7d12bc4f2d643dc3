"""Tables as one standalone HTML page: no network, no script, light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from fssbench.reports.tables.model import Table


def to_html(tables: Sequence[Table]) -> str:
    """All tables on one page; every text is escaped."""
    environment = Environment(
        loader=PackageLoader("fssbench.reports.formats"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(tables=tables)
