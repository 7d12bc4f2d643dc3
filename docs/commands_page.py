"""A hook of mkdocs: the page of commands is made from the command line itself, so that it is never out of date."""

from typing import Any

import click
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

PAGE = "reference/commands.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the page to the files of the site."""
    from fssbench.cli import commands  # noqa: F401  (registers the commands)
    from fssbench.cli.app import app

    command = get_command(app)
    with click.Context(command, info_name="fssbench") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="fssbench")
    files.append(File.generated(config, PAGE, content=text))
    return files
